"""Networks with batch normalisation: ours, and one of plain Flax layers as people have them."""

import jax
import optax
from flax import linen as nn
from flax import struct

from cnnjax.layers import BatchNorm, Conv
from cnnjax.training import Task


@struct.dataclass
class Hparams:
    """Hyperparameters of the small tasks."""

    learning_rate: float = 0.05
    dropout: float = 0.3


class OurNet(nn.Module):
    """8x8x1 -> 4@6x6 -> 16 -> 3, batch normalisation after the first two layers."""

    frozen: bool = False

    @nn.compact
    def __call__(self, inputs, *, dropout=None):
        x = nn.relu(BatchNorm(self.frozen, name="bn1")(Conv(4, 3)(inputs)))
        x = nn.Dense(16)(x.reshape(x.shape[0], -1))
        x = nn.relu(BatchNorm(self.frozen, name="bn2")(x))
        x = dropout(x) if dropout else x
        logits = nn.Dense(3)(x)
        return logits, {"logits": logits}


class PlainNet(nn.Module):
    """The same size, as somebody has it who does not know this library."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.relu(nn.GroupNorm(2)(nn.Conv(4, (3, 3), strides=2)(x)))
        x = nn.Dense(16)(x.reshape((x.shape[0], -1)))
        x = nn.relu(nn.BatchNorm(momentum=0.9)(x, use_running_average=not train))
        x = nn.Dropout(0.3, deterministic=not train)(x)
        return nn.Dense(3)(x)


def task_of(model: nn.Module) -> Task:
    """SGD with momentum on a network for the images of :mod:`tests.training_task`."""
    return Task(
        model=model,
        optimizer=lambda hparams: optax.sgd(hparams.learning_rate, momentum=0.9),
        prepare=lambda inputs: inputs.astype("float32") / 255,
    )


def traced(hparams: Hparams) -> Hparams:
    """The hyperparameters as arrays."""
    return jax.tree.map(jax.numpy.float32, hparams)
