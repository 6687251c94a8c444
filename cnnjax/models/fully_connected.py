"""Networks without convolutions: what the LeNets are compared with."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.layers import fan_in_uniform
from cnnjax.models.interface import Dropout, Features
from cnnjax.ops import scaled_tanh
from cnnjax.ops.windows import check_at_least_one


class FullyConnected(nn.Module):
    """Every unit sees every input: float[N, ...] -> F1 -> ... -> logits.

    Without hidden layers it is the linear classifier: 7,850 parameters on 28x28 images; with 300
    hidden units 238,510.

    Attributes:
        hidden: units of each hidden layer, of scaled tanh.
        classes: K, the number of outputs.
        dtype: of the computation; parameters and logits are float32.

    Source: LeCun et al. 1998, sections III.C.1 and III.C.5.
    """

    hidden: tuple[int, ...] = (300,)
    classes: int = 10
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        x, features = inputs.reshape(inputs.shape[0], -1), {}
        for number, units in enumerate((*self.hidden, self.classes), start=1):
            last = number > len(self.hidden)
            name = "output" if last else f"F{number}"
            check_at_least_one(units, "classes" if last else f"hidden[{number - 1}]")
            x = nn.Dense(units, kernel_init=fan_in_uniform(), dtype=self.dtype, name=name)(x)
            if not last:
                x = features[name] = scaled_tanh(x)
        logits = x.astype(jnp.float32)
        return logits, features | {"logits": logits}
