"""Pooling over windows and over time.

Why pooling has two lowerings: XLA computes the gradient of ``reduce_window`` max with
``select_and_scatter``, which on CPU is a scalar loop (30 times slower than the forward pass).
A window that does not overlap its neighbours needs neither: it is a handful of strided
slices and comparisons, which XLA fuses in both directions, on a GPU too.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.ops.lowerings.choice import choose
from cnnjax.ops.windows import Padding, check_fits, pad_widths, per_axis

Window = int | Sequence[int]


def max_pool(
    x: jax.Array, window: Window, *, strides: Window | None = None, padding: Padding = "valid"
) -> jax.Array:
    """The largest value of every window; its gradient goes to the first of equal maxima.

    A window with a NaN has the maximum NaN; its gradient goes whole to one of its elements: of
    side-by-side windows on CPU and NVIDIA's GPUs to the first NaN, in XLA's
    ``select_and_scatter``, which all other cases have, possibly to a number.

    Args:
        x: number[N, *spatial, C], one to three spatial axes.
        window: size, one int for all spatial axes or one for each.
        strides: the same; by default the window's size (windows side by side).
        padding: see :func:`cnnjax.ops.windows.pad_widths`; padded positions never win, and a
            window wholly in padding gives the type's lowest value (-inf for floats).

    Returns:
        number[N, *outputs, C].

    Raises:
        ValueError: a window, strides or padding that are none, or a window larger than the
            padded input.
    """
    return _pool(x, window, strides, padding, first_max, _window_max)


def sum_pool(
    x: jax.Array, window: Window, *, strides: Window | None = None, padding: Padding = "valid"
) -> jax.Array:
    """The sum of every window; arguments, result and errors as in :func:`max_pool`."""
    return _pool(x, window, strides, padding, jnp.add, _window_sum)


def mean_pool(
    x: jax.Array, window: Window, *, strides: Window | None = None, padding: Padding = "valid"
) -> jax.Array:
    """The sum of every window divided by its size (padding counts as zeros).

    Arguments, result and errors as in :func:`max_pool`; integers are promoted to float.
    """
    size = math.prod(per_axis(window, x.ndim - 2, "window"))
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(float)
    return sum_pool(x, window, strides=strides, padding=padding) / size


def max_over_time(x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """The largest value of every feature map over the whole sequence.

    Args:
        x: float[N, T, C].
        mask: bool[N, T], False where a position is padding and may not win; by default all
            positions take part.  A row without any True gives the type's lowest value.

    Returns:
        float[N, C].

    Source: Kim 2014, section 2, equation 4.
    """
    return jnp.max(_mask_time(x, mask), axis=1)


def k_max_over_time(x: jax.Array, k: int, *, mask: jax.Array | None = None) -> jax.Array:
    """The k largest values of every feature map, in the order in which they occur.

    Args:
        x: float[N, T, C].
        k: how many, 1 <= k <= T.
        mask: as in :func:`max_over_time`.

    Returns:
        float[N, k, C].

    Raises:
        ValueError: k outside 1..T.

    Source: Kalchbrenner, Grefenstette and Blunsom 2014, section 3.3.
    """
    if not 1 <= k <= x.shape[1]:
        raise ValueError(f"k is {k}; it must lie between 1 and the length, {x.shape[1]}")
    by_map = jnp.moveaxis(_mask_time(x, mask), 1, -1)
    _, positions = lax.top_k(by_map, k)
    in_order = jnp.sort(positions, axis=-1)
    return jnp.moveaxis(jnp.take_along_axis(by_map, in_order, axis=-1), -1, 1)


def _mask_time(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    return x if mask is None else jnp.where(mask[..., None], x, _lowest(x.dtype))


def _pool(
    x: jax.Array,
    window: Window,
    strides: Window | None,
    padding: Padding,
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    reduce_windows: Callable[..., jax.Array],
) -> jax.Array:
    rank = x.ndim - 2
    if not 1 <= rank <= 3:
        raise ValueError(f"pooling takes inputs [N, *spatial, C], not an array {x.shape}")
    window = per_axis(window, rank, "window")
    strides = window if strides is None else per_axis(strides, rank, "strides")
    pads = pad_widths(padding, x.shape[1:-1], window, strides)
    check_fits(x.shape[1:-1], window, pads, "window")
    plain = functools.partial(reduce_windows, window=window, strides=strides, pads=pads)
    if strides == window and not any(map(any, pads)):
        blocks = functools.partial(reduce_blocks, window=window, combine=combine)
        return choose(x, plain=plain, cpu=blocks, cuda=blocks)
    return plain(x)


def reduce_blocks(
    x: jax.Array,
    window: tuple[int, ...],
    combine: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
    """Combine the elements of side-by-side windows, one axis after the other (last axis first)."""
    for axis in range(len(window), 0, -1):
        size = window[axis - 1]
        count = x.shape[axis] // size
        x = functools.reduce(
            combine,
            [
                lax.slice_in_dim(x, i, i + (count - 1) * size + 1, size, axis=axis)
                for i in range(size)
            ],
        )
    return x


def first_max(a: jax.Array, b: jax.Array) -> jax.Array:
    """The larger of two, elementwise; all of its gradient goes to it, on a tie to the first."""
    # A comparison, not jnp.maximum: on a tie the whole gradient goes to the first, as
    # select_and_scatter has it.  A NaN on either side is passed on.
    return jnp.where((a >= b) | (a != a), a, b)


def _lowest(dtype: np.dtype) -> np.ndarray:
    if jnp.issubdtype(dtype, jnp.floating):
        return np.array(-np.inf, dtype)
    return np.array(jnp.iinfo(dtype).min, dtype)


def _window_max(x: jax.Array, *, window, strides, pads) -> jax.Array:
    return _reduce_window(x, _lowest(x.dtype), lax.max, window, strides, pads)


def _window_sum(x: jax.Array, *, window, strides, pads) -> jax.Array:
    return _reduce_window(x, np.zeros((), x.dtype), lax.add, window, strides, pads)


def _reduce_window(x, start, operation, window, strides, pads) -> jax.Array:
    return lax.reduce_window(
        x, start, operation, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )
