"""Subsampling with a trained coefficient and bias per map."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from cnnjax import ops
from cnnjax.ops.elementwise import Activation
from cnnjax.ops.windows import per_axis


class Subsample(nn.Module):
    """y = activation(coefficient * (sum over the window) + bias).

    Coefficient and bias are trained, one of each per map.

    float[N, *spatial, C] -> float[N, *outputs, C]; with ``summed``, the inputs are the sums
    already, as ``ConvPool(pool="sum")`` gives them.

    Attributes:
        window: size; windows lie side by side.
        coefficient_init: by default 1 / window size: it starts as the mean.
        bias_init: initialiser.
        activation: a function of one element at a time, in LeNet-5 the squashing function; by
            default none.
        dtype: of the computation (default: what inputs and parameters promote to).
        param_dtype: of the parameters.

    Source: LeCun et al. 1998, section II.B, layer S2.
    """

    window: int | Sequence[int] = 2
    coefficient_init: Callable | None = None
    bias_init: Callable = nn.initializers.zeros_init()
    activation: Activation = jax.nn.identity
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, summed: bool = False) -> jax.Array:
        size = math.prod(per_axis(self.window, x.ndim - 2, "window"))
        init = self.coefficient_init or nn.initializers.constant(1 / size)
        coefficient = self.param("coefficient", init, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", self.bias_init, x.shape[-1:], self.param_dtype)
        x, coefficient, bias = promote_dtype(x, coefficient, bias, dtype=self.dtype)
        sums = x if summed else ops.sum_pool(x, self.window)
        return ops.scale_and_shift(sums, coefficient, bias, activation=self.activation)

    def links(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
        """Connections for one example, given the shapes of inputs and outputs (with N)."""
        window = math.prod(per_axis(self.window, len(inputs) - 2, "window"))
        return math.prod(outputs[1:]) * (window + 1)
