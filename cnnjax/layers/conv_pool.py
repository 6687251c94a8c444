"""Convolution, activation and pooling in one layer."""

from collections.abc import Sequence

import jax
from flax import linen as nn

from cnnjax import ops
from cnnjax.layers.convolution import Conv
from cnnjax.ops.convolution_pooling import Pool
from cnnjax.ops.elementwise import Activation


class ConvPool(Conv):
    """A convolution, its activation and the pooling of its maps: the unit of every LeNet.

    float[N, *spatial, C] -> (pooled float[N, *pooled, F], maps float[N, *outputs, F]), where
    pooled = pool(maps) and maps = activation(convolution + bias).  Under ``jit`` the maps cost
    nothing unless they are used: the pooled maps are computed without them where that is faster
    (see :func:`cnnjax.ops.conv_pool`), so the two agree to rounding.

    Attributes:
        activation: a function of one element at a time.
        pool: ``"max"``, ``"mean"`` or ``"sum"``.
        window: size of the pooling windows, which lie side by side.

    The others, parameters and errors are those of :class:`Conv`.
    """

    activation: Activation = nn.relu
    pool: Pool = "max"
    window: int | Sequence[int] = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, kernel, bias = self._operands(x)
        pooled = ops.conv_pool(
            x,
            kernel,
            bias,
            activation=self.activation,
            pool=self.pool,
            window=self.window,
            **self._geometry(),
        )
        maps = self.activation(ops.add_bias(ops.conv(x, kernel, **self._geometry()), bias))
        return pooled, maps
