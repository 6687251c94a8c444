"""Convolution with 3x3 kernels by Winograd's minimal filtering, F(2x2, 3x3).

Four outputs of a 3x3 kernel need 36 multiplications; of suitable sums of inputs and of weights 16
are enough.  All tiles of an image then are 16 matrix products over the channels.

Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.1.
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


_PIECE = 1 << 24  # bytes of transformed inputs that stay in the cache
_UNROLLED = 4  # pieces: more are a loop, which is slower, but whose program does not grow with them

Pads = Sequence[tuple[int, int]]


def winograd(x: jax.Array, kernel: jax.Array, pads: Pads = ((0, 0), (0, 0))) -> jax.Array:
    """Cross-correlation with a 3x3 kernel, on as many images at a time as stay in the cache.

    Args:
        x: float[N, H, W, C].
        kernel: float[3, 3, C, F].
        pads: (before, after) of height and width.

    Returns:
        float[N, H', W', F], equal to the convolution up to rounding.
    """
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    size = 4 * x.dtype.itemsize * math.prod(x.shape[1:])  # 16 sums for 4 inputs
    # A power of two, which divides most batches: what is left is compiled once more.
    piece = 1 << max(0, int(math.log2(_PIECE / size)))
    weights = jnp.einsum("ai,bj,ijcf->abcf", *(_G.astype(kernel.dtype),) * 2, kernel)
    if len(x) <= _UNROLLED * piece:
        firsts = range(0, max(len(x), 1), piece)
        return jnp.concatenate([_tiles(x[first : first + piece], weights) for first in firsts])
    return lax.map(lambda image: _tiles(image[None], weights)[0], x, batch_size=piece)


def _tiles(x: jax.Array, weights: jax.Array) -> jax.Array:
    """Y = A^T [weights * (B^T d B)] A for every tile of 2x2 outputs; without padding.

    x is float[N, H, W, C], the weights are G g G^T, float[4, 4, C, F].
    """
    count, channels, maps = x.shape[0], *weights.shape[-2:]
    height, width = x.shape[1] - 2, x.shape[2] - 2
    down, right = -(-height // 2), -(-width // 2)  # tiles
    x = jnp.pad(x, ((0, 0), (0, 2 * down - height), (0, 2 * right - width), (0, 0)))
    d = [
        [x[:, i : i + 2 * down - 1 : 2, j : j + 2 * right - 1 : 2] for j in range(4)]
        for i in range(4)
    ]
    # The barriers: each of the 16 is computed once, and not anew for every product.
    inputs = lax.optimization_barrier(
        [part.reshape(-1, channels) for part in _both_axes(_input, d)]
    )
    products = lax.optimization_barrier(
        [
            part @ weights[i, j]
            for part, (i, j) in zip(inputs, itertools.product(range(4), range(4)), strict=True)
        ]
    )
    tiles = _both_axes(_output, [products[4 * i : 4 * i + 4] for i in range(4)])
    y = jnp.stack(tiles).reshape(2, 2, count, down, right, maps)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(count, 2 * down, 2 * right, maps)
    return y[:, :height, :width]


def _both_axes(transform, tile: list) -> list:
    """The transform along columns, then along rows: all results, row by row."""
    by_column = [transform(column) for column in zip(*tile, strict=True)]
    return [part for row in zip(*by_column, strict=True) for part in transform(row)]


def _input(d) -> list:
    """B^T d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _output(m) -> list:
    """A^T m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
