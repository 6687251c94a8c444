"""Convolution, activation and pooling as one operation: the unit of every LeNet."""

import functools
import math
from collections.abc import Sequence

import jax
from jax import lax

from cnnjax.ops.convolution import add_bias, conv
from cnnjax.ops.elementwise import FEW_MAPS, Activation
from cnnjax.ops.lowerings.choice import choose
from cnnjax.ops.lowerings.convolution_pooling import (
    Pool,
    Unit,
    examples_innermost,
    examples_outermost,
)
from cnnjax.ops.pooling import Window, max_pool, mean_pool, sum_pool
from cnnjax.ops.windows import Padding, pad_widths, per_axis

_POOLS = {"max": max_pool, "mean": mean_pool, "sum": sum_pool}
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

    What is finite is the same on every platform, to rounding.  Where an operand is infinite or not
    a number, more outputs than those that depend on it may be NaN on CPU and NVIDIA's GPUs: those
    whose blocks of pixels hold it, and of a mean or a sum all maps of the unit, because there it is
    multiplied by zeros (:mod:`cnnjax.ops.lowerings.convolution_pooling`).
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
    unit = Unit(
        activation,
        pool,
        window=per_axis(window, 2, "window"),
        pads=pad_widths(padding, x.shape[1:3], kernel.shape[:2], (1, 1)),
        precision=precision,
    )
    outermost = functools.partial(examples_outermost, unit)
    innermost = functools.partial(examples_innermost, unit)
    on_cpu = innermost if kernel.shape[-1] <= FEW_MAPS else outermost
    return choose(x, kernel, bias, plain=composed, cpu=on_cpu, cuda=outermost)
