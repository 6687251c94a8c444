"""Batch normalisation, by the statistics of the whole batch or by those that are kept."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import lax


@struct.dataclass
class WholeBatch:
    """What a layer must know of a training batch to compute over all of it, and only over it.

    Attributes:
        weights: float32[N], 0 for padding, which is left out.
        axis_name: of the devices that hold the other parts of the batch, under ``shard_map`` or
            ``pmap``; None where this is all of it.
    """

    weights: jax.Array
    axis_name: str | None = struct.field(default=None, pytree_node=False)

    def moments(
        self, x: jax.Array, feature_axes: Sequence[int] = (-1,)
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Mean, biased variance and number of the elements behind each feature.

        Args:
            x: float[N, ...]; computed in float32 at least.
            feature_axes: the axes of ``x`` that are kept, in their order; not the first.

        Returns:
            Mean and variance, of the features' shape, and float32[], how many elements each has.
        """
        kept = sorted(axis % x.ndim for axis in feature_axes)
        reduced = tuple(axis for axis in range(x.ndim) if axis not in kept)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        weights = self.weights.reshape((-1,) + (1,) * (x.ndim - 1))
        units = math.prod(x.shape[axis] for axis in reduced[1:])
        count = self._total(self.weights.sum()) * units

        def mean(values: jax.Array) -> jax.Array:
            present = jnp.where(weights > 0, values * weights, 0)
            return self._total(present.sum(reduced, keepdims=True)) / count

        centre = mean(x)
        variance = mean(jnp.square(x - centre))
        return centre.squeeze(reduced), variance.squeeze(reduced), count

    def _total(self, part: jax.Array) -> jax.Array:
        return lax.psum(part, self.axis_name) if self.axis_name else part


class BatchNorm(nn.Module):
    """y = scale (x - mean) / sqrt(var + epsilon) + bias, one of each per map.

    float[N, *spatial, C] -> the same.

    In training mean and variance are those of the whole batch, without padding and however it is
    divided among devices; elsewhere, and always where it is ``frozen``, they are the running
    averages that training or loaded weights left in the collection ``batch_stats``.  A training
    step (:func:`cnnjax.training.train_step`) gives every such layer of a model its batch, so that
    a network need not hand it through.

    Attributes:
        frozen: the running averages are constants of the network: of a batch nothing is measured,
            the output of an example never depends on the others, and no gradient changes that.
        momentum: the share of the newest batch in the running averages, as in PyTorch (Flax's
            momentum is 1 minus it).  What is averaged is the unbiased variance, n / (n - 1) times
            the one that the batch is divided by.
        epsilon: as PyTorch's.
        dtype: of the output (default: the inputs'); a map's factor and offset are computed in the
            parameters' type.
        param_dtype: of the parameters and averages.

    Source: Ioffe and Szegedy 2015, Algorithms 1 and 2.
    """

    frozen: bool = False
    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, batch: WholeBatch | None = None) -> jax.Array:
        maps = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones_init(), maps, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), maps, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, maps, self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, maps, self.param_dtype)
        mean, var = running_mean.value, running_var.value
        if batch is not None and not self.frozen:
            mean, var, count = batch.moments(x)
            unbiased = var * (count / jnp.maximum(count - 1, 1))
            running_mean.value = self._average(running_mean.value, mean)
            running_var.value = self._average(running_var.value, unbiased)
        factor = scale * lax.rsqrt(var + self.epsilon)
        dtype = self.dtype or x.dtype
        per_map = (1,) * (x.ndim - 1) + maps
        factor, offset = (v.astype(dtype).reshape(per_map) for v in (factor, bias - mean * factor))
        return x.astype(dtype) * factor + offset

    def _average(self, before: jax.Array, now: jax.Array) -> jax.Array:
        return (1 - self.momentum) * before + self.momentum * now.astype(before.dtype)

    def links(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
        """Connections for one example: each unit has its input and its bias."""
        return 2 * math.prod(outputs[1:])
