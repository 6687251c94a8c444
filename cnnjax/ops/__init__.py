"""The mathematics: arrays in, arrays out.  No parameters, no Flax, no state.

Every function works under ``jit``, ``vmap`` and ``grad``, and in float32, bfloat16 and (with
``jax_enable_x64``) float64.  Where a function has several equivalent lowerings, it picks the
fastest for the platform it is compiled for; they agree in value and in gradient
(at a NaN in value alone: see :func:`max_pool`).
"""

from cnnjax.ops.convolution import conv, convolve, local_conv
from cnnjax.ops.elementwise import dropout, scaled_tanh
from cnnjax.ops.pooling import (
    k_max_over_time,
    max_over_time,
    max_pool,
    mean_pool,
    sum_pool,
)

__all__ = [
    "conv",
    "convolve",
    "dropout",
    "k_max_over_time",
    "local_conv",
    "max_over_time",
    "max_pool",
    "mean_pool",
    "scaled_tanh",
    "sum_pool",
]
