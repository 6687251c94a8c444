"""Initial weights of the primary sources."""

import math
from collections.abc import Sequence

import jax


def fan_in_uniform(scale: float = 2.4, exponent: float = 1.0):
    """Initialiser: uniform in ± ``scale`` / fan-in^``exponent``, of all axes but the last.

    Source: LeCun et al. 1998, appendix A: the weighted sums then start in the linear part of
    the squashing function.  With the exponent 1/2 of LeCun, Bottou, Orr and Müller 1998,
    "Efficient BackProp", section 4.6, they have the same variance in every layer.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype=float) -> jax.Array:
        if 0 in shape:
            raise ValueError(f"weights {tuple(shape)}: there are no inputs, or no units")
        bound = scale / math.prod(shape[:-1]) ** exponent
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def symmetric_uniform(bound: float):
    """Initialiser: uniform in ± ``bound``."""

    def init(key: jax.Array, shape: Sequence[int], dtype=float) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
