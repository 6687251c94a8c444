"""Initial weights of the primary sources."""

import math
from collections.abc import Sequence

import jax


def fan_in_uniform(scale: float = 2.4):
    """Initialiser: uniform in ± ``scale`` / fan-in, the fan-in being all axes but the last.

    Source: LeCun et al. 1998, appendix A: the weighted sums then start in the linear part of
    the squashing function.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype=float) -> jax.Array:
        bound = scale / math.prod(shape[:-1])
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def symmetric_uniform(bound: float):
    """Initialiser: uniform in ± ``bound``."""

    def init(key: jax.Array, shape: Sequence[int], dtype=float) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
