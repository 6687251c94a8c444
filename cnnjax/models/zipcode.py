"""The zip-code network of 1989: 9,760 parameters, two layers of shared kernels, biases unshared.

Source: LeCun, Boser, Denker, Henderson, Howard, Hubbard and Jackel 1989, "Backpropagation Applied
to Handwritten Zip Code Recognition", Neural Computation 1.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.layers import Conv, fan_in_uniform
from cnnjax.models.interface import Dropout, Features
from cnnjax.models.strategies import SIZE, pad_background
from cnnjax.ops import scaled_tanh

# Map j of H2 sees all maps of H1 but j, j+1, j+4 and j+6 (mod 12).  The paper only says that each
# sees eight of the twelve.  So every map of H1 feeds eight maps of H2, and since no other
# difference than 6 occurs twice between these four numbers, two maps of H2 have five maps of H1
# in common (six, if they are six apart): no table of this size is more even.
_UNSEEN = (0, 1, 4, 6)
H2_CONNECTIONS = tuple(
    tuple(i for i in range(12) if (i - j) % 12 not in _UNSEEN) for j in range(12)
)
_ACTIVATIONS = {"tanh": scaled_tanh, "relu": nn.relu}


class ZipCodeNet(nn.Module):
    """16x16 -> H1 12@8x8 -> H2 12@4x4 -> H3 30 -> 10.

    5x5 windows every two units, kernels shared and a bias for every unit; each map of H2 sees
    eight of H1's twelve (``H2_CONNECTIONS``).  On one channel, biases included:

        layer    parameters   connections
        H1            1,068        19,968
        H2            2,592        38,592
        H3            5,790         5,790
        output          310           310
        all           9,760        64,660

    Every unit has its full number of connections: windows that reach over an edge see -1, the
    images' background, in H1 as in H2.

    Attributes:
        classes: K, the number of outputs.
        activation: of the hidden layers, scaled tanh in the paper.
        squashed: whether the outputs are scaled tanh, too, as in the paper; or else linear.
        kernel_init: draws all weights, in the paper uniform in ±2.4 / fan-in.
        dtype: of the computation; parameters and logits are float32.

    In training, ``dropout`` is applied to H2.
    """

    classes: int = 10
    activation: Literal["tanh", "relu"] = "tanh"
    squashed: bool = True
    kernel_init: Callable = fan_in_uniform()
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        if inputs.ndim != 4 or inputs.shape[1:3] != (SIZE, SIZE):
            raise ValueError(
                f"the zip-code network takes images [N, {SIZE}, {SIZE}, C]; "
                f"the inputs are {inputs.shape}"
            )
        f = _ACTIVATIONS[self.activation]
        arguments: dict[str, Any] = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        maps = arguments | {"strides": 2, "bias": "unit"}
        h1 = f(Conv(12, 5, **maps, name="H1")(pad_background(inputs, 5)))
        table: dict[str, Any] = {"connections": H2_CONNECTIONS}
        h2 = f(Conv(12, 5, **maps, **table, name="H2")(pad_background(h1, 5)))
        kept = h2 if dropout is None else dropout(h2)
        h3 = f(nn.Dense(30, **arguments, name="H3")(kept.reshape(kept.shape[0], -1)))
        outputs = nn.Dense(self.classes, **arguments, name="output")(h3)
        if self.squashed:
            outputs = scaled_tanh(outputs)
        logits = outputs.astype(jnp.float32)
        return logits, {"H1": h1, "H2": h2, "H3": h3, "logits": logits}
