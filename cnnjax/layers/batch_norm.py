"""Batch normalisation by fixed statistics."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class FrozenBatchNorm(nn.Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + bias, one of each per map.

    float[N, *spatial, C] -> the same.  The statistics are those that a training elsewhere left:
    parameters, so that they are loaded, saved and counted with the weights, but constants of the
    network, with gradient zero whatever is trained.  Of a batch nothing is measured: the output of
    an example never depends on the others.  What else should stay, scale and bias, the one who
    trains leaves out, and weight decay too: it would change even what has no gradient.

    Attributes:
        epsilon: as PyTorch's.
        dtype: of the output (default: the inputs'); the map's factor and offset are computed in the
            parameters' type.
        param_dtype: of the parameters.

    Source: Ioffe and Szegedy 2015, Algorithm 2, step 11.
    """

    epsilon: float = 1e-5
    dtype: Any = None
    param_dtype: Any = jnp.float32
    statistics = ("mean", "var")  # the parameters that are never trained

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        maps = x.shape[-1:]
        ones, zeros = nn.initializers.ones_init(), nn.initializers.zeros_init()
        scale = self.param("scale", ones, maps, self.param_dtype)
        bias = self.param("bias", zeros, maps, self.param_dtype)
        mean = lax.stop_gradient(self.param("mean", zeros, maps, self.param_dtype))
        var = lax.stop_gradient(self.param("var", ones, maps, self.param_dtype))
        factor = scale * lax.rsqrt(var + self.epsilon)
        dtype = self.dtype or x.dtype
        per_map = (1,) * (x.ndim - 1) + maps
        factor, offset = (v.astype(dtype).reshape(per_map) for v in (factor, bias - mean * factor))
        return x.astype(dtype) * factor + offset

    def links(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
        """Connections for one example: each unit has its input and its bias."""
        return 2 * math.prod(outputs[1:])
