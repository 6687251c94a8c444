"""The mathematics: arrays in, arrays out.  No parameters, no Flax, no state.

Every function works under ``jit``, ``vmap`` and ``grad``, and in float32, bfloat16 and (with
``jax_enable_x64``) float64.  Where a function has several equivalent lowerings, it picks the
fastest for the platform it is compiled for; they agree in value and in gradient
(at a NaN in value alone: see :func:`max_pool`).
"""

from cnnjax.ops.convolution import add_bias, conv, convolve, local_conv
from cnnjax.ops.convolution_pooling import conv_pool
from cnnjax.ops.distortion import random_shift, random_warp, warp
from cnnjax.ops.elementwise import dropout, scale_and_shift, scaled_tanh
from cnnjax.ops.images import enlarge, intensity, resize_by_area, standardize
from cnnjax.ops.lookup_convolution import max_of_lookup_conv
from cnnjax.ops.lowerings.choice import plain_lowerings
from cnnjax.ops.pooling import (
    k_max_over_time,
    max_over_time,
    max_pool,
    mean_pool,
    sum_pool,
)

__all__ = [
    "add_bias",
    "conv",
    "conv_pool",
    "convolve",
    "dropout",
    "enlarge",
    "intensity",
    "k_max_over_time",
    "local_conv",
    "max_of_lookup_conv",
    "max_over_time",
    "max_pool",
    "mean_pool",
    "plain_lowerings",
    "random_shift",
    "random_warp",
    "resize_by_area",
    "scale_and_shift",
    "scaled_tanh",
    "standardize",
    "sum_pool",
    "warp",
]
