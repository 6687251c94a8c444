"""Euclidean radial basis function units with fixed centres."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class RadialBasis(nn.Module):
    """y_k = sum_j (x_j - w_kj)^2: the squared distance to each class's fixed code.

    float[N, D] -> float32[N, K].  No trained parameters.

    Attributes:
        centres: number[K, D] array (anything with ``__array__`` or nested tuples).

    Source: LeCun et al. 1998, section II.B, equation 7.
    """

    centres: tuple[tuple[float, ...], ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        centres = jnp.asarray(np.asarray(self.centres), jnp.promote_types(x.dtype, jnp.float32))
        if centres.ndim != 2 or not centres.size:
            raise ValueError(f"centres is {centres.shape}; it must be [K, D], at least one of each")
        if x.ndim != 2 or x.shape[1] != centres.shape[1]:
            raise ValueError(
                f"the units have {centres.shape[1]} inputs each; the inputs are {x.shape}"
            )
        x = x.astype(centres.dtype)
        # |x - w|^2 = |x|^2 - 2 x.w + |w|^2, one matrix product instead of N K D differences.
        cross = jnp.matmul(x, centres.T, precision=jax.lax.Precision.HIGHEST)
        squares = (x * x).sum(-1, keepdims=True) + (centres * centres).sum(-1)[None]
        return jnp.maximum(squares - 2 * cross, 0)  # near a centre, rounding may go below

    def links(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
        """Connections for one example, given the shapes of inputs and outputs (with N)."""
        return inputs[-1] * outputs[-1]
