"""The same three networks in plain Flax: nn.Conv, nn.avg_pool, nn.max_pool, optax, jax.jit.

Written as Flax's own MNIST example writes its network and its step, with cnnjax's parameter names,
so that the same parameters fit.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training import train_state

from cnnjax.models.bitmaps import DIGITS
from cnnjax.models.lenet import C3_CONNECTIONS


def scaled_tanh(x: jax.Array) -> jax.Array:
    """LeCun's squashing function."""
    return 1.7159 * nn.tanh(2 / 3 * x)


class LeNet1(nn.Module):
    """As :class:`cnnjax.models.LeNet1`."""

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = scaled_tanh(nn.Conv(4, (5, 5), padding="VALID", name="C1")(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = scaled_tanh(nn.Conv(12, (5, 5), padding="VALID", name="C3")(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        return nn.Dense(10, name="output")(x.reshape((x.shape[0], -1)))


class Affine(nn.Module):
    """A coefficient and a bias per map."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        return x * self.param("coefficient", nn.initializers.ones, shape) + self.param(
            "bias", nn.initializers.zeros, shape
        )


class LeNet5(nn.Module):
    """As :class:`cnnjax.models.LeNet5`; the table of C3 as a mask on its kernel."""

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        mask = np.zeros((5, 5, 6, 16), np.float32)
        for output, inputs in enumerate(C3_CONNECTIONS):
            mask[:, :, list(inputs), output] = 1
        x = scaled_tanh(nn.Conv(6, (5, 5), padding="VALID", name="C1")(x))
        x = scaled_tanh(Affine(name="S2")(4 * nn.avg_pool(x, (2, 2), (2, 2))))
        x = scaled_tanh(nn.Conv(16, (5, 5), padding="VALID", mask=mask, name="C3")(x))
        x = scaled_tanh(Affine(name="S4")(4 * nn.avg_pool(x, (2, 2), (2, 2))))
        x = scaled_tanh(nn.Conv(120, (5, 5), padding="VALID", name="C5")(x))
        x = scaled_tanh(nn.Dense(84, name="F6")(x.reshape((x.shape[0], -1))))
        return -((x[:, None] - DIGITS.reshape(1, 10, -1)) ** 2).sum(-1)


class ModernLeNet(nn.Module):
    """As :class:`cnnjax.models.ModernLeNet`, with dropout at ``rate``."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        x = nn.relu(nn.Conv(32, (5, 5), padding="VALID", name="C1")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(64, (5, 5), padding="VALID", name="C3")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(256, name="F5")(x.reshape((x.shape[0], -1))))
        x = nn.Dropout(self.rate, deterministic=self.rate == 0)(x, rng=key)
        return nn.Dense(10, name="output")(x)


def build(
    name: str, params: Any, optimizer: optax.GradientTransformation, rate: float = 0.0
) -> train_state.TrainState:
    """The training state of the network ``name`` with cnnjax's ``params``."""
    network = {"lenet1": LeNet1, "lenet5": LeNet5, "modern": lambda: ModernLeNet(rate)}[name]()
    params = jax.tree.map(jnp.array, params)
    if name == "lenet5":
        pairs = params["C3"]["kernel"]
        dense = jnp.zeros((5, 5, 6, 16))
        at = [(i, o) for o, inputs in enumerate(C3_CONNECTIONS) for i in inputs]
        inputs, outputs = map(list, zip(*at, strict=True))
        params["C3"]["kernel"] = dense.at[:, :, inputs, outputs].set(pairs)
    return train_state.TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)


def loss(name: str, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean loss: cross-entropy, or equation 9 for LeNet-5 with j = 1."""
    if name != "lenet5":
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    right = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return (jnp.logaddexp(jax.nn.logsumexp(logits, axis=-1), -1.0) - right).mean()


def train_step(
    name: str, state: train_state.TrainState, images: jax.Array, labels: jax.Array, key: jax.Array
) -> tuple[train_state.TrainState, jax.Array]:
    """One step from a batch uint8[N, 28, 28, 1]."""
    x = images.astype(jnp.float32) * (1.275 / 255) - 0.1
    if name == "lenet5":
        x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-0.1)

    def objective(params):
        return loss(name, state.apply_fn({"params": params}, x, key), labels)

    value, gradients = jax.value_and_grad(objective)(state.params)
    return state.apply_gradients(grads=gradients), value
