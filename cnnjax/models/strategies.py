"""Net-1 to Net-5: the same task with ever more knowledge of it in the network's connections.

From one fully connected layer to two layers of shared kernels.  All take float[N, 16, 16, C],
and all their units, the outputs too, are scaled tanh.  Kernels are shared, biases are not: every
unit has its own.  Their links and free parameters on one channel, biases included:

    Net-1   2,570   2,570       Net-3   1,226   1,226       Net-5   5,194   1,060
    Net-2   3,214   3,214       Net-4   2,266   1,132

Every unit has its full number of links: windows that reach over an edge see background (-1).

Source: LeCun 1989, "Generalization and Network Design Strategies" (CRG-TR-89-4).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.layers import Conv, LocalConv, fan_in_uniform
from cnnjax.models.interface import Dropout, Features
from cnnjax.ops import scaled_tanh

SIZE = 16  # of images
_BACKGROUND = -1.0


def pad_background(x: jax.Array, window: int) -> jax.Array:
    """Maps [N, H, W, C] with the background around them that whole windows, one every two units,
    need for half as many outputs: [N, H + window - 2, W + window - 2, C]."""
    spare = window - 2
    pads = (spare // 2, spare - spare // 2)
    return jnp.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=_BACKGROUND)


class _Net(nn.Module):
    """What the five networks have in common: their attributes and the output layer.

    Attributes:
        classes: K, the number of outputs.
        dtype: of the computation; parameters and logits are float32.
    """

    classes: int = 10
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        if inputs.ndim != 4 or inputs.shape[1:3] != (SIZE, SIZE):
            raise ValueError(
                f"the networks of 1989 take images [N, {SIZE}, {SIZE}, C]; "
                f"the inputs are {inputs.shape}"
            )
        hidden = self.hidden(inputs)
        last = [inputs, *hidden.values()][-1]
        logits = self._dense(self.classes, last, "output").astype(jnp.float32)
        return logits, hidden | {"logits": logits}

    def hidden(self, inputs: jax.Array) -> Features:
        """The hidden layers' activations, in order."""
        raise NotImplementedError

    def _dense(self, units: int, x: jax.Array, name: str) -> jax.Array:
        init = fan_in_uniform()
        layer = nn.Dense(units, kernel_init=init, dtype=self.dtype, name=name)
        return scaled_tanh(layer(x.reshape(x.shape[0], -1)))

    def _windows(
        self, kind: type[Conv | LocalConv], maps: int, window: int, x: jax.Array, name: str
    ) -> jax.Array:
        """Maps of half the size: a window every two units, a bias for every unit."""
        init, dtype = fan_in_uniform(), self.dtype
        layer = kind(maps, window, strides=2, bias="unit", kernel_init=init, dtype=dtype, name=name)
        return scaled_tanh(layer(pad_background(x, window)))


class Net1(_Net):
    """256 -> 10, fully connected."""

    def hidden(self, inputs: jax.Array) -> Features:
        return {}


class Net2(_Net):
    """256 -> H1 12 -> 10, fully connected."""

    def hidden(self, inputs: jax.Array) -> Features:
        return {"H1": self._dense(12, inputs, "H1")}


class Net3(_Net):
    """256 -> H1 8x8, local 3x3 -> H2 4x4, local 5x5 -> 10: no kernel is shared."""

    def hidden(self, inputs: jax.Array) -> Features:
        h1 = self._windows(LocalConv, 1, 3, inputs, "H1")
        return {"H1": h1, "H2": self._windows(LocalConv, 1, 5, h1, "H2")}


class Net4(_Net):
    """256 -> H1 2@8x8, shared 3x3 -> H2 4x4, local 5x5 over both maps -> 10."""

    def hidden(self, inputs: jax.Array) -> Features:
        h1 = self._windows(Conv, 2, 3, inputs, "H1")
        return {"H1": h1, "H2": self._windows(LocalConv, 1, 5, h1, "H2")}


class Net5(_Net):
    """256 -> H1 2@8x8, shared 3x3 -> H2 4@4x4, shared 5x5 over both maps -> 10."""

    def hidden(self, inputs: jax.Array) -> Features:
        h1 = self._windows(Conv, 2, 3, inputs, "H1")
        return {"H1": h1, "H2": self._windows(Conv, 4, 5, h1, "H2")}
