"""Convolution, activation and pooling as one matrix product for all positions of a pooling window.

The image is cut into blocks of the window's size, the pixels of a block becoming channels (space to
depth).  A pooled unit depends on q x q neighbouring blocks; each position of its window is one
group of maps, with the kernel at another place of these blocks.  Pooling is then a maximum or a
sum over the groups, and the gradients are matrix products, too.

Examples are outermost and maps innermost, as everywhere, or turned around within the operation.
What is elementwise, and what is copied, then runs along whole rows of examples, where on CPU, with
a LeNet's 4 to 16 maps innermost, it would be scalar code (``benchmarks/README.md``); XLA cancels
the two transpositions between one such operation and the next.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.ops.convolution import add_bias
from cnnjax.ops.elementwise import Activation, scaled_tanh
from cnnjax.ops.pooling import first_max

Pool = Literal["max", "mean", "sum"]

_NEVER_FALLING = (jax.nn.relu, jnp.tanh, scaled_tanh, jax.nn.sigmoid)


@dataclasses.dataclass(frozen=True)
class Unit:
    """A convolution [k, l, C, F] with strides, dilation and groups of 1, activation and pooling.

    Attributes:
        activation: a function of one element at a time.
        pool: of a window.
        window: its size.
        pads: before and behind each axis of the image.
        precision: of the convolution.
    """

    activation: Activation
    pool: Pool
    window: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    precision: lax.PrecisionLike

    @property
    def positions(self) -> int:
        """How many a window has."""
        return math.prod(self.window)

    @property
    def largest_first(self) -> bool:
        """Whether the largest of a window is so before the activation, too.

        The activation is then computed once for it, not for every position.
        """
        return self.pool == "max" and self.activation in _NEVER_FALLING

    def extents(self, x: jax.Array, kernel: jax.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How many pooled units there are along each axis, and how many blocks each depends on."""
        axes = list(zip(x.shape[1:3], self.pads, kernel.shape, self.window, strict=False))
        pooled = tuple((size + sum(pad) - k + 1) // w for size, pad, k, w in axes)
        reach = tuple(-(-(w + k - 1) // w) for _, _, k, w in axes)
        return pooled, reach

    def largest(self, y: jax.Array, axis: int) -> jax.Array:
        """Of the groups of maps along ``axis``, elementwise."""
        return functools.reduce(first_max, jnp.split(y, self.positions, axis))

    def shares(self, maps: int, dtype: np.dtype) -> np.ndarray:
        """[F, positions * F]: the sum or mean over the groups as a product.

        As a sum, the gradient would be computed once for every group, or concatenated.
        """
        share = np.eye(maps) / (self.positions if self.pool == "mean" else 1)
        return np.tile(share, (1, self.positions)).astype(dtype)


def examples_outermost(
    unit: Unit, x: jax.Array, kernel: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """The unit's outputs [N, P, Q, F] for x [N, H, W, C], kernel [k, l, C, F] and bias [F]."""
    pooled, reach = unit.extents(x, kernel)
    counts = [p + q - 1 for p, q in zip(pooled, reach, strict=True)]
    blocks = _cut(x, unit, counts).transpose(0, 1, 3, 2, 4, 5)
    blocks = blocks.reshape(x.shape[0], *counts, unit.positions * x.shape[-1])
    y = _patch_product(blocks, _at_every_position(kernel, unit.window, reach), unit.precision)
    if unit.largest_first:
        return unit.activation(add_bias(unit.largest(y, axis=-1), bias))
    if bias is not None:
        y = _plus(y, jnp.tile(bias, unit.positions))
    y = unit.activation(y)
    if unit.pool == "max":
        return unit.largest(y, axis=-1)
    return jnp.matmul(y, unit.shares(kernel.shape[-1], y.dtype).T, precision="highest")


def examples_innermost(
    unit: Unit, x: jax.Array, kernel: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """The same, computed as [F, P, Q, N]."""
    pooled, reach = unit.extents(x, kernel)
    # One block more than is needed, so that there is always some padding: XLA stores what it pads,
    # and computes what it does not pad anew for every patch that it is in.
    counts = [p + q for p, q in zip(pooled, reach, strict=True)]
    blocks = _cut(x.swapaxes(0, -1), unit, counts).transpose(2, 4, 0, 1, 3, 5)
    blocks = blocks.reshape(unit.positions * x.shape[-1], *counts, x.shape[0])
    weights = _at_every_position(kernel, unit.window, reach)
    # The barriers keep XLA from moving reshapes and transpositions through the product.
    patches = lax.optimization_barrier(_patches(blocks, pooled, reach))
    weights = lax.optimization_barrier(weights.reshape(len(patches), weights.shape[-1]))
    y = lax.dot_general(weights, patches, (((0,), (0,)), ((), ())), unit.precision)
    y = lax.optimization_barrier(y)
    maps = kernel.shape[-1]
    bias = jnp.zeros(maps, y.dtype) if bias is None else bias
    if unit.largest_first:
        y = unit.activation(unit.largest(y, axis=0) + bias[:, None])
    else:
        y = unit.activation(y + jnp.tile(bias, unit.positions)[:, None])
        if unit.pool == "max":
            y = unit.largest(y, axis=0)
        else:
            y = jnp.matmul(unit.shares(maps, y.dtype), y, precision="highest")
    return y.reshape(maps, *pooled, x.shape[0]).swapaxes(0, -1)


def _cut(x: jax.Array, unit: Unit, counts: Sequence[int]) -> jax.Array:
    """[A, H, W, B] -> [A, rows of blocks, window, columns of blocks, window, B].

    The image is padded, or its end left out, so that there are as many as ``counts`` says.
    """
    widths = [
        (low, count * w - size - low, 0)
        for (low, _), count, w, size in zip(
            unit.pads, counts, unit.window, x.shape[1:3], strict=True
        )
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *widths, (0, 0, 0)])
    shape = (counts[0], unit.window[0], counts[1], unit.window[1])
    return x.reshape(x.shape[0], *shape, x.shape[-1])


def _at_every_position(
    kernel: jax.Array, window: tuple[int, ...], reach: Sequence[int]
) -> jax.Array:
    """[k, l, C, F] -> [q, q, window * C, window * F]: the kernel at each place of a window."""
    height, width, channels, _ = kernel.shape
    room = [q * w for q, w in zip(reach, window, strict=True)]
    placed = jnp.stack(
        [
            jnp.pad(
                kernel,
                ((i, room[0] - height - i), (j, room[1] - width - j), (0, 0), (0, 0)),
            )
            for i, j in itertools.product(*map(range, window))
        ],
        axis=3,
    )
    placed = placed.reshape(reach[0], window[0], reach[1], window[1], channels, -1)
    return placed.transpose(0, 2, 1, 3, 4, 5).reshape(*reach, math.prod(window) * channels, -1)


def _patch_product(x: jax.Array, kernel: jax.Array, precision: lax.PrecisionLike) -> jax.Array:
    """One matrix product of all patches of an image with the kernel."""
    height, width, _, maps = kernel.shape
    counts = x.shape[1] - height + 1, x.shape[2] - width + 1
    patches = jnp.concatenate(
        [
            x[:, i : i + counts[0], j : j + counts[1]]
            for i, j in itertools.product(range(height), range(width))
        ],
        axis=-1,
    )
    # The kernel's contracted axis last: its gradient is then a product without a transposed copy.
    # The barriers, here and in the gradients, keep XLA from moving transpositions through them.
    patches = lax.optimization_barrier(patches)
    flat = lax.optimization_barrier(kernel.reshape(-1, maps).T)
    y = lax.dot_general(
        patches.reshape(-1, patches.shape[-1]), flat, (((1,), (1,)), ((), ())), precision
    )
    return lax.optimization_barrier(y).reshape(x.shape[0], *counts, maps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _patches(blocks: jax.Array, pooled: tuple[int, ...], reach: tuple[int, ...]) -> jax.Array:
    """[B, *blocks, N] -> [q * q * B, P * Q * N]: for every pooled unit the blocks it depends on.

    First side by side, then one below the other: of a row of units all is copied at once.
    """
    (rows, columns), examples = pooled, blocks.shape[-1]
    beside = jnp.concatenate([blocks[:, :, j : j + columns] for j in range(reach[1])])
    beside = beside.reshape(*beside.shape[:2], columns * examples)
    below = jnp.concatenate([beside[:, i : i + rows] for i in range(reach[0])])
    return below.reshape(below.shape[0], rows * columns * examples)


@_patches.defjvp
def _(pooled, reach, primals, tangents):
    # At once: transposed, one sum of what is shifted instead of two.
    (blocks,), (blocks_dot,) = primals, tangents
    rows, columns = pooled
    shifted = [
        blocks_dot[:, i : i + rows, j : j + columns]
        for i, j in itertools.product(*map(range, reach))
    ]
    patches = _patches(blocks, pooled, reach)
    return patches, jnp.concatenate(shifted).reshape(patches.shape)


@jax.custom_jvp
def _plus(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [N, ..., F] + bias [F]; its gradient in the bias is a product, not a sum.

    XLA computes what it sums once more for the sum; what it multiplies, it computes once for all.
    """
    return add_bias(y, bias)


@_plus.defjvp
def _(primals, tangents):
    (y, bias), (y_dot, bias_dot) = primals, tangents
    ones = jnp.ones((math.prod(y.shape[:-1]), 1), y.dtype)
    spread = jnp.matmul(ones, bias_dot[None], precision="highest")
    return _plus(y, bias), y_dot + spread.reshape(y.shape)
