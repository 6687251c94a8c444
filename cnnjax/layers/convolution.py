"""Convolutional layers: shared kernels with a connection table, and unshared kernels."""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from cnnjax import ops
from cnnjax.ops.convolution import check_groups
from cnnjax.ops.windows import Padding, check_at_least_one, per_axis

Shape = tuple[int, ...]
BiasSharing = Literal["map", "unit", "none"]


class Conv(nn.Module):
    """y_j = sum_i x_i * k_ij + b_j: a convolutional layer as the primary sources vary it.

    float[N, *spatial, C] -> float[N, *outputs, F], one to three spatial axes.

    Attributes:
        features: F, the number of output maps.
        kernel_size: one int for all spatial axes, or one for each.
        strides, padding, dilation, groups: as in :func:`cnnjax.ops.conv`.
        connections: for every output map the input maps that feed it (LeNet-5's C3, Table I of
            LeCun et al. 1998); all of them by default.  Any sequences of integers, kept as
            tuples.  Only connected pairs have weights: the parameter is float[*window, L], its
            L pairs in the order of this table.
        shared_kernel: one kernel per output map, k_j, used on all its input maps, as the
            lecture's formula prints it, instead of one per pair of maps, k_ij.  The parameter
            is float[*window, 1, F].
        bias: ``"map"``: one per output map; ``"unit"``: one per unit (LeCun 1989);
            ``"none"``.
        kernel_init, bias_init: initialisers.  ``kernel_init`` is called with the shape
            float[*window, C / groups, F], so that the fan-in it sees is a unit's number of
            inputs; with a connection table per output map, float[*window, inputs, 1].  Of what
            it draws, ``shared_kernel`` keeps the first input map's.
        dtype: of the computation (default: what inputs and parameters promote to).
        param_dtype: of the parameters.

    Raises:
        ValueError: attributes that do not fit each other or the inputs, naming both.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "valid"
    dilation: int | Sequence[int] = 1
    groups: int = 1
    connections: Sequence[Sequence[int]] | None = None
    shared_kernel: bool = False
    bias: BiasSharing = "map"
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        if self.connections is not None:
            # A Linen module must be hashable to be jitted.
            self.connections = _tuples(self.connections)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel, bias = self._operands(x)
        return ops.add_bias(ops.conv(x, kernel, **self._geometry()), bias)

    def _geometry(self) -> dict[str, Any]:
        return {
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    def _operands(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Inputs, kernel and bias of one type, as :func:`cnnjax.ops.conv` takes them."""
        check_at_least_one(self.features, "features")
        kernel = self._kernel(per_axis(self.kernel_size, x.ndim - 2, "kernel_size"), x.shape[-1])
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        if self.shared_kernel and self.connections is None:
            x = x.sum(-1, keepdims=True)  # sum_i (x_i * k_j) = (sum_i x_i) * k_j
        y = jax.eval_shape(functools.partial(ops.conv, **self._geometry()), x, kernel)
        return x, kernel, _bias(self, y)

    def _kernel(self, window: Shape, channels: int) -> jax.Array:
        """The kernel float[*window, C / groups, F], zero where the table has no connection.

        One shared by all input maps, without a table, is float[*window, 1, F].
        """
        if self.shared_kernel and self.groups != 1:
            raise ValueError("shared_kernel cannot be combined with groups")
        if self.connections is None:
            check_groups(self.groups, channels, self.features)
            shape = (*window, channels // self.groups, self.features)
            return self.param("kernel", self._init, shape)
        inputs, outputs = self._pairs(channels)
        weights = self.param("kernel", self._init_table, window)
        if self.shared_kernel:
            weights = weights[..., 0, outputs]
        kernel = jnp.zeros((*window, channels, self.features), weights.dtype)
        return kernel.at[..., inputs, outputs].set(weights, unique_indices=True)

    def _pairs(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """The connected (input map, output map) pairs, in the table's order."""
        table = self.connections
        assert table is not None
        if self.groups != 1:
            raise ValueError("a connection table cannot be combined with groups")
        if len(table) != self.features:
            raise ValueError(f"the table has {len(table)} rows for {self.features} output maps")
        for j, row in enumerate(table):
            if not row or len(set(row)) != len(row) or not all(0 <= i < channels for i in row):
                raise ValueError(
                    f"row {j} of the connection table is {tuple(row)}; it must name, once each, "
                    f"some of the input maps 0..{channels - 1}"
                )
        inputs = np.concatenate([np.asarray(row) for row in table])
        outputs = np.repeat(np.arange(self.features), [len(row) for row in table])
        return inputs, outputs

    def _init(self, key: jax.Array, shape: Shape) -> jax.Array:
        # Drawn for all input maps where they share one as well: the fan-in is that of a unit.
        kernel = self.kernel_init(key, shape, self.param_dtype)
        return kernel[..., :1, :] if self.shared_kernel else kernel

    def _init_table(self, key: jax.Array, window: Shape) -> jax.Array:
        """Each output map drawn as a kernel of its own: float[*window, L], shared [.., 1, F]."""
        assert self.connections is not None
        kernels = [
            self._init(key, (*window, len(row), 1))
            for key, row in zip(jax.random.split(key, self.features), self.connections, strict=True)
        ]
        if self.shared_kernel:
            return jnp.concatenate(kernels, axis=-1)
        return jnp.concatenate([kernel[..., 0] for kernel in kernels], axis=-1)

    def links(self, inputs: Shape, outputs: Shape) -> int:
        """Connections for one example, given the shapes of inputs and outputs (with N)."""
        window = math.prod(per_axis(self.kernel_size, len(inputs) - 2, "kernel_size"))
        if self.connections is None:
            pairs = inputs[-1] // self.groups * self.features
        else:
            pairs = sum(map(len, self.connections))
        return math.prod(outputs[1:-1]) * (window * pairs + _bias_links(self))


class LocalConv(nn.Module):
    """A locally connected layer: windows as in a convolution, but every unit's weights its own.

    float[N, *spatial, C] -> float[N, *outputs, F]; the parameter is
    float[*outputs, *window, C, F], so the input size is fixed once initialised.

    Attributes: as those of :class:`Conv`; the bias is one per unit unless said otherwise.

    Source: LeCun 1989, "Generalization and Network Design Strategies", Net-3.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "valid"
    bias: BiasSharing = "unit"
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros_init()
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        check_at_least_one(self.features, "features")
        window = per_axis(self.kernel_size, x.ndim - 2, "kernel_size")
        like = jax.ShapeDtypeStruct((*window, x.shape[-1], self.features), x.dtype)
        slide = lambda x, kernel: ops.conv(x, kernel, strides=self.strides, padding=self.padding)
        outputs = jax.eval_shape(slide, x, like).shape[1:-1]
        kernel = self.param("kernel", self._init_positions, outputs, like.shape)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        y = ops.local_conv(x, kernel, strides=self.strides, padding=self.padding)
        return ops.add_bias(y, _bias(self, y))

    def _init_positions(self, key: jax.Array, outputs: Shape, shape: Shape) -> jax.Array:
        """Each position drawn as a kernel of its own, so that the fan-in is that of one unit."""
        keys = jax.random.split(key, math.prod(outputs))
        kernels = jax.vmap(lambda key: self.kernel_init(key, shape, self.param_dtype))(keys)
        return kernels.reshape(*outputs, *shape)

    def links(self, inputs: Shape, outputs: Shape) -> int:
        """Connections for one example, given the shapes of inputs and outputs (with N)."""
        window = math.prod(per_axis(self.kernel_size, len(inputs) - 2, "kernel_size"))
        pairs = inputs[-1] * self.features
        return math.prod(outputs[1:-1]) * (window * pairs + _bias_links(self))


def _tuples(table: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    try:
        return tuple(tuple(map(operator.index, row)) for row in table)
    except TypeError:
        raise ValueError(
            f"connections is {table!r}; it must be a sequence of rows, one per output map, each a "
            f"sequence of integers"
        ) from None


def _bias(layer: Conv | LocalConv, y: jax.Array | jax.ShapeDtypeStruct) -> jax.Array | None:
    """The bias for outputs ``y``: one per map [F], one per unit [*outputs, F], or none."""
    if layer.bias == "none":
        return None
    if layer.bias not in ("map", "unit"):
        raise ValueError(f"bias is {layer.bias!r}; it must be 'map', 'unit' or 'none'")
    shape = y.shape[-1:] if layer.bias == "map" else y.shape[1:]
    return layer.param("bias", layer.bias_init, shape, layer.param_dtype).astype(y.dtype)


def _bias_links(layer: Conv | LocalConv) -> int:
    return 0 if layer.bias == "none" else layer.features
