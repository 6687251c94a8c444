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


def examples_outermost(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    *,
    activation: Activation,
    pool: Pool,
    window: tuple[int, int],
    pads: tuple[tuple[int, int], ...],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """Of [N, H, W, C] and [k, l, C, F]; strides, dilation and groups are 1."""
    pooled, reach = _extents(x, kernel, window, pads)
    counts = [p + q - 1 for p, q in zip(pooled, reach, strict=True)]
    blocks = _cut(x, pads, window, counts).transpose(0, 1, 3, 2, 4, 5)
    blocks = blocks.reshape(x.shape[0], *counts, math.prod(window) * x.shape[-1])
    y = _patch_product(blocks, _at_every_position(kernel, window, reach), precision)
    count = math.prod(window)
    if _largest_first(pool, activation):
        return activation(add_bias(functools.reduce(first_max, jnp.split(y, count, axis=-1)), bias))
    if bias is not None:
        y = _plus(y, jnp.tile(bias, count))
    y = activation(y)
    if pool == "max":
        return functools.reduce(first_max, jnp.split(y, count, axis=-1))
    return jnp.matmul(y, _shares(pool, count, kernel.shape[-1], y.dtype).T, precision="highest")


def examples_innermost(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    *,
    activation: Activation,
    pool: Pool,
    window: tuple[int, int],
    pads: tuple[tuple[int, int], ...],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """The same as [F, P, Q, N], turned around again in the end."""
    pooled, reach = _extents(x, kernel, window, pads)
    # One block more than is needed, so that there is always some padding: XLA stores what it pads,
    # and computes what it does not pad anew for every patch that it is in.
    counts = [p + q for p, q in zip(pooled, reach, strict=True)]
    blocks = _cut(x.swapaxes(0, -1), pads, window, counts).transpose(2, 4, 0, 1, 3, 5)
    blocks = blocks.reshape(math.prod(window) * x.shape[-1], *counts, x.shape[0])
    weights = _at_every_position(kernel, window, reach)
    # The barriers keep XLA from moving reshapes and transpositions through the product.
    patches = lax.optimization_barrier(_patches(blocks, pooled, reach))
    weights = lax.optimization_barrier(weights.reshape(len(patches), weights.shape[-1]))
    y = lax.dot_general(weights, patches, (((0,), (0,)), ((), ())), precision)
    y = lax.optimization_barrier(y)
    count, maps = math.prod(window), kernel.shape[-1]
    bias = jnp.zeros(maps, y.dtype) if bias is None else bias
    if _largest_first(pool, activation):
        y = activation(functools.reduce(first_max, jnp.split(y, count)) + bias[:, None])
    else:
        y = activation(y + jnp.tile(bias, count)[:, None])
        if pool == "max":
            y = functools.reduce(first_max, jnp.split(y, count))
        else:
            y = jnp.matmul(_shares(pool, count, maps, y.dtype), y, precision="highest")
    return y.reshape(maps, *pooled, x.shape[0]).swapaxes(0, -1)


def _largest_first(pool: Pool, activation: Activation) -> bool:
    """Whether the largest of a window is so before the activation, too.

    The activation is then computed once for it, not for every position.
    """
    return pool == "max" and activation in _NEVER_FALLING


def _extents(
    x: jax.Array, kernel: jax.Array, window: tuple[int, int], pads: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """How many pooled units there are along each axis, and how many blocks each depends on."""
    axes = list(zip(x.shape[1:3], pads, kernel.shape, window, strict=False))
    pooled = tuple((size + sum(pad) - k + 1) // w for size, pad, k, w in axes)
    reach = tuple(-(-(w + k - 1) // w) for _, _, k, w in axes)
    return pooled, reach


def _cut(
    x: jax.Array,
    pads: tuple[tuple[int, int], ...],
    window: tuple[int, int],
    counts: Sequence[int],
) -> jax.Array:
    """[A, H, W, B] -> [A, rows of blocks, window, columns of blocks, window, B].

    The image is padded, or its end left out, so that there are as many as ``counts`` says.
    """
    high = [
        count * w - size - low
        for count, w, size, (low, _) in zip(counts, window, x.shape[1:3], pads, strict=True)
    ]
    inner = [(low, end, 0) for (low, _), end in zip(pads, high, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
    return x.reshape(x.shape[0], counts[0], window[0], counts[1], window[1], x.shape[-1])


def _at_every_position(
    kernel: jax.Array, window: tuple[int, int], reach: Sequence[int]
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
def _patches(blocks: jax.Array, pooled: tuple[int, int], reach: tuple[int, int]) -> jax.Array:
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


def _shares(pool: Pool, count: int, maps: int, dtype: np.dtype) -> np.ndarray:
    """[F, count * F]: the sum over the groups as a product, and with it the gradient.

    As a sum, the gradient would be computed once for every group, or concatenated.  (An infinite
    unit makes the other maps of its window NaN: 0 times infinity.)
    """
    return np.tile(np.eye(maps) / (count if pool == "mean" else 1), (1, count)).astype(dtype)


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
