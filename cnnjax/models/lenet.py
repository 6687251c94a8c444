"""The LeNets: LeNet-1 (the lecture's figure), LeNet-4, LeNet-5 of 1998, their modern descendant.

All take float[N, H, W, C] with any number of channels, and any size from which their
convolutions leave at least one unit.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax import ops
from cnnjax.layers import Conv, ConvPool, RadialBasis, Subsample, fan_in_uniform
from cnnjax.models.bitmaps import DIGITS
from cnnjax.models.interface import Dropout, Features

C3_CONNECTIONS = (
    # Every contiguous subset of three of the six S2 maps, of four, three discontinuous subsets
    # of four, and all six: LeCun et al. 1998, Table I.
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


LENET4_CONNECTIONS = tuple(
    # Four of the eight S2 maps each, so that every S2 map feeds as many: the paper has no table.
    tuple(sorted((first + step) % 8 for step in steps))
    for steps in ((0, 1, 2, 3), (0, 1, 3, 4))
    for first in range(8)
)

BACKGROUND, _FOREGROUND = -0.1, 1.175  # of inputs
_MARGIN = 2  # pixels of background around an enlarged image


class LeNet1(nn.Module):
    """28x28 -> C1 4@24x24 -> S2 4@12x12 -> C3 12@8x8 -> S4 12@4x4 -> 10.

    5x5 kernels, every map of S2 feeding every map of C3, 2x2 subsampling by the mean, scaled
    tanh: 3,246 parameters.

    Attributes:
        classes: K, the number of outputs.
        dtype: of the computation; parameters and logits are float32.

    Source: the lecture's figure; LeCun et al. 1990, "Handwritten Digit Recognition with a
    Back-Propagation Network".  (The 1990 network connects C3 to S2 by a table; the figure
    does not.)
    """

    classes: int = 10
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        _check_size(inputs, smallest=16)
        init = fan_in_uniform()
        arguments = {"kernel_init": init, "dtype": self.dtype}
        arguments |= {"activation": ops.scaled_tanh, "pool": "mean"}
        s2, c1 = ConvPool(4, 5, **arguments, name="C1")(inputs)
        s4, c3 = ConvPool(12, 5, **arguments, name="C3")(s2)
        flat = s4.reshape(s4.shape[0], -1)
        logits = nn.Dense(self.classes, kernel_init=init, dtype=self.dtype, name="output")(flat)
        logits = logits.astype(jnp.float32)
        return logits, {"C1": c1, "S2": s2, "C3": c3, "S4": s4, "logits": logits}


class LeNet4(nn.Module):
    """32x32 -> C1 4@28x28 -> S2 8@14x14 -> C3 16@10x10 -> S4 16@5x5 -> F5 120 -> 10.

    Every C1 map is subsampled by two maps of S2, each with a coefficient and a bias of its own:
    51,098 parameters and 302,306 connections on 32x32 inputs.

    Attributes:
        classes: K, the number of outputs.
        dtype: of the computation; parameters and logits are float32.

    Source: LeCun et al. 1998, section III.C.2, which gives these sizes, and about 17,000 parameters
    and 260,000 connections: F5 alone, if it is connected to all of S4, has more.  How C3 and F5
    are connected is not published; here C3 by a table of its own and F5 fully.
    """

    classes: int = 10
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        _check_size(inputs, smallest=16)
        f = ops.scaled_tanh
        arguments = {"kernel_init": fan_in_uniform(), "dtype": self.dtype}
        summed = arguments | {"activation": f, "pool": "sum"}
        subsampling = {"activation": f, "dtype": self.dtype}
        sums, c1 = ConvPool(4, 5, **summed, name="C1")(inputs)
        sums = jnp.repeat(sums, 2, axis=-1)
        s2 = Subsample(name="S2", **subsampling)(sums, summed=True)
        sums, c3 = ConvPool(16, 5, connections=LENET4_CONNECTIONS, **summed, name="C3")(s2)
        s4 = Subsample(name="S4", **subsampling)(sums, summed=True)
        f5 = f(nn.Dense(120, **arguments, name="F5")(s4.reshape(s4.shape[0], -1)))
        logits = nn.Dense(self.classes, **arguments, name="output")(f5).astype(jnp.float32)
        return logits, {"C1": c1, "S2": s2, "C3": c3, "S4": s4, "F5": f5, "logits": logits}


class LeNet5(nn.Module):
    """32x32 -> C1 6@28x28 -> S2 6@14x14 -> C3 16@10x10 -> S4 16@5x5 -> C5 120 -> F6 84 -> 10.

    60,000 trained parameters and 340,908 connections on 32x32 inputs.  The output units are
    radial basis functions: the logits are minus the squared distances of F6 to the digits'
    7x12 bitmaps, so that softmax cross-entropy on them is the paper's equation 9 without its
    constant j.  On larger inputs C5 covers all of S4, as it does at 32x32.

    Attributes:
        codes: int[K, 84], the output units' centres; by default the ten digits'.
        init_exponent: initial weights are uniform in ± 2.4 / fan-in^exponent.
        dtype: of the computation; parameters and logits are float32.

    Source: LeCun et al. 1998, section II.B.  Deviations: biases start at zero and the
    subsampling coefficients at 1/4 (the paper draws them like all weights).
    """

    codes: tuple[tuple[int, ...], ...] = tuple(map(tuple, DIGITS.reshape(10, -1).tolist()))
    init_exponent: float = 1.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        _check_size(inputs, smallest=16)
        f = ops.scaled_tanh
        init = fan_in_uniform(exponent=self.init_exponent)
        arguments = {"kernel_init": init, "dtype": self.dtype}
        summed = arguments | {"activation": f, "pool": "sum"}
        subsampling = {"activation": f, "dtype": self.dtype}
        sums, c1 = ConvPool(6, 5, **summed, name="C1")(inputs)
        s2 = Subsample(name="S2", **subsampling)(sums, summed=True)
        sums, c3 = ConvPool(16, 5, connections=C3_CONNECTIONS, **summed, name="C3")(s2)
        s4 = Subsample(name="S4", **subsampling)(sums, summed=True)
        c5 = f(Conv(120, s4.shape[1:-1], **arguments, name="C5")(s4))[:, 0, 0]
        f6 = f(nn.Dense(len(self.codes[0]), **arguments, name="F6")(c5))
        logits = -RadialBasis(self.codes, name="output")(f6)
        return logits, {
            "C1": c1, "S2": s2, "C3": c3, "S4": s4, "C5": c5, "F6": f6, "logits": logits,
        }  # fmt: skip


class ModernLeNet(nn.Module):
    """28x28 -> C1 32@24x24 -> S2 32@12x12 -> C3 64@8x8 -> S4 64@4x4 -> F5 256 -> 10.

    5x5 kernels, ReLU, 2x2 max-pooling, dropout before the output, softmax: 317,066 parameters
    on 28x28x1 inputs with the default sizes.

    Attributes:
        classes: K, the number of outputs.
        maps: feature maps of C1 and of C3.
        hidden: units of F5.
        dtype: of the computation; parameters and logits are float32.
    """

    classes: int = 10
    maps: tuple[int, int] = (32, 64)
    hidden: int = 256
    dtype: Any = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        _check_size(inputs, smallest=16)
        arguments = {"kernel_init": nn.initializers.he_normal(), "dtype": self.dtype}
        s2, c1 = ConvPool(self.maps[0], 5, **arguments, name="C1")(inputs)
        s4, c3 = ConvPool(self.maps[1], 5, **arguments, name="C3")(s2)
        f5 = nn.relu(nn.Dense(self.hidden, **arguments, name="F5")(s4.reshape(s4.shape[0], -1)))
        kept = f5 if dropout is None else dropout(f5)
        logits = nn.Dense(self.classes, dtype=self.dtype, name="output")(kept)
        logits = logits.astype(jnp.float32)
        return logits, {"C1": c1, "S2": s2, "C3": c3, "S4": s4, "F5": f5, "logits": logits}


def lenet_inputs(size: int, images: jax.Array) -> jax.Array:
    """Stored images [N, h, w, C] -> float32[N, size, size, C], from -0.1 (background) to 1.175.

    Images are enlarged by a whole factor that leaves a margin, and padded with background.
    """
    x = ops.intensity(images)
    factor = (size - 2 * _MARGIN) // max(x.shape[1:3])
    if factor > 1:
        x = ops.enlarge(x, factor)
    spare = [size - side for side in x.shape[1:3]]
    pads = [(pixels // 2, pixels - pixels // 2) for pixels in spare]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return x * (_FOREGROUND - BACKGROUND) + BACKGROUND


def _check_size(inputs: jax.Array, smallest: int) -> None:
    if inputs.ndim != 4 or min(inputs.shape[1:3]) < smallest:
        raise ValueError(
            f"a LeNet takes images [N, H, W, C] of at least {smallest}x{smallest}; "
            f"the inputs are {inputs.shape}"
        )
