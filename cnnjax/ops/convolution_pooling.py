"""Convolution, activation and pooling as one operation: the unit of every LeNet."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.ops.convolution import add_bias, conv
from cnnjax.ops.convolution_lowerings import bilinear, patch_product, rows
from cnnjax.ops.elementwise import as_rows, repeated, scaled_tanh
from cnnjax.ops.lowerings import choose
from cnnjax.ops.pooling import Window, first_max, max_pool, mean_pool, sum_pool
from cnnjax.ops.windows import Padding, pad_widths, per_axis

Activation = Callable[[jax.Array], jax.Array]
Pool = Literal["max", "mean", "sum"]

_POOLS = {"max": max_pool, "mean": mean_pool, "sum": sum_pool}
_NEVER_FALLING = (jax.nn.relu, jnp.tanh, scaled_tanh, jax.nn.sigmoid)
_MOST_PAIRS = 128  # of input and output maps
_MOST_POSITIONS = 9  # in a window: each is a group of maps, and part of the program


def conv_pool(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    activation: Activation = jax.nn.relu,
    pool: Pool = "max",
    window: Window = 2,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """pool(activation(conv(x, kernel) + bias)), with windows side by side.

    Args:
        x: float[N, *spatial, C].
        kernel: float[*window, C / groups, F].
        bias: float[F], one per map, or float[*outputs, F], one per unit; by default none.
        activation: a function of one element at a time.
        pool: ``"max"``, ``"mean"`` or ``"sum"`` of every window.
        window: of the pooling: one int for all spatial axes or one for each.
        strides, padding, dilation, groups, precision: of the convolution, as in
            :func:`cnnjax.ops.conv`.

    Returns:
        float[N, *pooled, F].

    Raises:
        ValueError: shapes that do not fit each other, naming both; an unknown pool.
    """
    if pool not in _POOLS:
        raise ValueError(f"pool is {pool!r}; it must be one of {', '.join(_POOLS)}")

    def composed(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        y = conv(
            x,
            kernel,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=groups,
            precision=precision,
        )
        return _POOLS[pool](activation(add_bias(y, bias)), window)

    small = kernel.ndim == 4 and (
        kernel.shape[-2] * kernel.shape[-1] <= _MOST_PAIRS
        and math.prod(per_axis(window, 2, "window")) <= _MOST_POSITIONS
    )
    per_map = bias is None or bias.ndim == 1
    if not small or not per_map or not strides == dilation == groups == 1:
        return composed(x, kernel, bias)
    jax.eval_shape(composed, x, kernel, bias)  # refuses what does not fit
    blocks = functools.partial(
        _blocks,
        activation=activation,
        pool=pool,
        window=per_axis(window, 2, "window"),
        pads=pad_widths(padding, x.shape[1:3], kernel.shape[:2], (1, 1)),
        precision=precision,
    )
    cpu, cuda = (functools.partial(blocks, on_cpu=on_cpu) for on_cpu in (True, False))
    return choose(x, kernel, bias, plain=composed, cpu=cpu, cuda=cuda)


def _blocks(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    *,
    activation: Activation,
    pool: Pool,
    window: tuple[int, int],
    pads: tuple[tuple[int, int], ...],
    precision: lax.PrecisionLike,
    on_cpu: bool,
) -> jax.Array:
    """One matrix product that gives all positions of every pooling window.

    The image is cut into blocks of the window's size, the pixels of a block becoming channels
    (space to depth).  A pooled unit depends on q x q neighbouring blocks; each position of its
    window is one group of maps, with the kernel at another place of these blocks.  Pooling is
    then a maximum or a sum over the groups, and the gradients are matrix products, too.  On CPU the
    one in the input is a convolution (:func:`convolution_lowerings.rows`), and what is elementwise
    runs over rows of whole images (:mod:`cnnjax.ops.elementwise`).
    """
    axes = list(zip(x.shape[1:3], pads, kernel.shape, window, strict=False))
    pooled = [(size + sum(pad) - k + 1) // w for size, pad, k, w in axes]
    reach = [-(-(w + k - 1) // w) for _, _, k, w in axes]
    blocks = _space_to_depth(
        x, pads, window, [p + q - 1 for p, q in zip(pooled, reach, strict=True)]
    )
    convolution = product = functools.partial(patch_product, precision=precision)
    if on_cpu:
        direct = functools.partial(
            lax.conv_general_dilated,
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=precision,
        )
        convolution = bilinear(product, by_input=functools.partial(rows, direct), by_kernel=product)
    y = convolution(blocks, _at_every_position(kernel, window, reach))
    count = math.prod(window)
    if pool == "max" and activation in _NEVER_FALLING:
        # The largest stays the largest: the activation is computed once, not for every position.
        return activation(add_bias(functools.reduce(first_max, jnp.split(y, count, axis=-1)), bias))
    units = as_rows(y) if on_cpu else y
    if bias is not None:
        spread = repeated(bias, units.shape[1]) if on_cpu else jnp.tile(bias, count)
        units = _shift(units, spread)
    y = activation(units).reshape(y.shape)
    if pool == "max":
        return functools.reduce(first_max, jnp.split(y, count, axis=-1))
    # The sum over the groups as a product, and with it the gradient, else a slow concatenation.
    # (An infinite unit makes the other maps of its window NaN: 0 times infinity.)
    share = np.eye(kernel.shape[-1]) / (count if pool == "mean" else 1)
    return jnp.matmul(y, np.tile(share, (count, 1)).astype(y.dtype), precision="highest")


@jax.custom_jvp
def _shift(y: jax.Array, bias: jax.Array) -> jax.Array:
    """y [N, ..., F] + bias [F]; its gradient in the bias is a product, not a sum.

    XLA computes what it sums once more for the sum; what it multiplies, it computes once for all.
    """
    return add_bias(y, bias)


@_shift.defjvp
def _(primals, tangents):
    (y, bias), (y_dot, bias_dot) = primals, tangents
    ones = jnp.ones((math.prod(y.shape[:-1]), 1), y.dtype)
    spread = jnp.matmul(ones, bias_dot[None], precision="highest")
    return _shift(y, bias), y_dot + spread.reshape(y.shape)


def _space_to_depth(
    x: jax.Array,
    pads: tuple[tuple[int, int], ...],
    window: tuple[int, int],
    counts: list[int],
) -> jax.Array:
    """[N, H, W, C] -> [N, *counts, window * C], the image padded or cut to whole blocks."""
    high = [
        count * w - size - low
        for count, w, size, (low, _) in zip(counts, window, x.shape[1:3], pads, strict=True)
    ]
    widths = [
        (0, 0, 0),
        *((low, end, 0) for (low, _), end in zip(pads, high, strict=True)),
        (0, 0, 0),
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), widths)
    images, channels = x.shape[0], x.shape[-1]
    x = x.reshape(images, counts[0], window[0], counts[1], window[1], channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(images, *counts, math.prod(window) * channels)


def _at_every_position(kernel: jax.Array, window: tuple[int, int], reach: list[int]) -> jax.Array:
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
