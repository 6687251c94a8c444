"""cnnjax.layers against the operations they wrap, explicit formulas and published counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from cnnjax.layers import Conv, LocalConv, RadialBasis, Subsample, fan_in_uniform

TABLE = ((0, 1), (2,), (2, 0, 1), (1,))  # 4 output maps on 3 input maps, 7 pairs


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def parameters_of(layer, x):
    """Random values (biases, too) in the shapes of the layer's parameters on inputs x."""
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)
    return {name: normal(*p.shape) for name, p in variables["params"].items()}


def initial_kernel(layer, shape):
    return np.asarray(layer.init(jax.random.key(0), jnp.zeros(shape))["params"]["kernel"])


def shapes(parameters):
    return {name: p.shape for name, p in parameters.items()}


def apply(layer, parameters, x):
    return layer.apply({"params": parameters}, x)


def assert_close(actual, expected, tolerance=1e-5):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(
        np.asarray(actual, np.float32), np.asarray(expected, np.float32), tolerance, tolerance
    )


# --- Conv -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, options, kernel",
    [
        ((2, 9, 3), {"kernel_size": 3, "dilation": 2}, (3, 3, 4)),
        ((2, 6, 7, 4), {"kernel_size": (3, 2), "strides": 2, "groups": 2}, (3, 2, 2, 4)),
        ((1, 4, 4, 5, 2), {"kernel_size": 2, "padding": "same"}, (2, 2, 2, 2, 4)),
    ],
)
def test_conv_is_the_operation_plus_a_bias(x, options, kernel):
    x, layer = normal(*x), Conv(4, **options)
    parameters = parameters_of(layer, x)
    assert shapes(parameters) == {"kernel": kernel, "bias": (4,)}
    options = {name: value for name, value in options.items() if name != "kernel_size"}
    y = np.asarray(ops.conv(x, parameters["kernel"], **options))
    assert_close(apply(layer, parameters, x), y + parameters["bias"])


@pytest.mark.parametrize("shared_kernel", [False, True])
def test_connected_conv_is_the_formula(shared_kernel):
    """y_j = sum over the connected i of x_i * k_ij + b_j, one pair of maps at a time; the
    weights k_ij lie in the order of the table, and with shared_kernel k_ij = k_j."""
    x = normal(2, 6, 5, 3)
    layer = Conv(4, (3, 2), connections=TABLE, shared_kernel=shared_kernel)
    parameters = parameters_of(layer, x)
    kernel, bias = parameters["kernel"], parameters["bias"]
    assert kernel.shape == ((3, 2, 1, 4) if shared_kernel else (3, 2, 7))
    assert bias.shape == (4,)
    y = np.zeros((2, 4, 4, 4), np.float32) + bias
    for n, (i, j) in enumerate((i, j) for j, row in enumerate(TABLE) for i in row):
        weights = kernel[..., j] if shared_kernel else kernel[..., [n]]
        y[..., j] += ops.conv(x[..., [i]], weights[..., None])[..., 0]
    assert_close(apply(layer, parameters, x), y)


@pytest.mark.parametrize("shared_kernel", [False, True])
def test_unconnected_maps_get_no_gradient(shared_kernel):
    """The derivative of output map j by input map i is zero exactly where j's row lacks i."""
    x = normal(1, 4, 4, 3)
    layer = Conv(4, 3, connections=TABLE, shared_kernel=shared_kernel)
    parameters = parameters_of(layer, x)
    jacobian = jax.jit(jax.jacobian(lambda x: apply(layer, parameters, x).sum((0, 1, 2))))(x)
    reached = np.any(jacobian, axis=(1, 2, 3))  # [F, C]
    assert reached.tolist() == [[i in row for i in range(3)] for row in TABLE]


@pytest.mark.parametrize("table", [np.array([[0, 1], [2, 0]]), [[0, 1], np.array([2, 0])]])
def test_a_table_may_be_any_sequences(table):
    """And leaves the layer hashable, without which it cannot be jitted."""
    x, layer = normal(1, 4, 4, 3), Conv(2, np.int64(3), connections=table)
    expected = Conv(2, 3, connections=((0, 1), (2, 0)))
    assert layer == expected
    parameters = jax.jit(layer.init)(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(apply(layer, parameters, x), apply(expected, parameters, x))


def test_a_table_of_all_pairs_is_the_dense_conv():
    x = normal(2, 6, 6, 3)
    full = Conv(2, 3, connections=[range(3)] * 2)
    parameters = parameters_of(full, x)
    dense = parameters["kernel"].reshape(3, 3, 2, 3).swapaxes(-1, -2)  # [.., F C] -> [.., C, F]
    expected = apply(Conv(2, 3), parameters | {"kernel": dense}, x)
    assert_close(apply(full, parameters, x), expected)


@pytest.mark.parametrize("x", [(2, 8, 3), (2, 6, 5, 3), (1, 4, 4, 4, 3)])
def test_a_shared_kernel_is_equal_pair_kernels(x):
    """k_ij = k_j is one choice of the pair kernels, with C times fewer parameters."""
    x = normal(*x)
    shared = Conv(2, 2, shared_kernel=True)
    parameters = parameters_of(shared, x)
    window = (2,) * (x.ndim - 2)
    assert shapes(parameters) == {"kernel": (*window, 1, 2), "bias": (2,)}
    repeated = parameters | {"kernel": np.repeat(parameters["kernel"], 3, axis=-2)}
    expected = apply(Conv(2, 2), repeated, x)
    assert_close(apply(shared, parameters, x), expected)


@pytest.mark.parametrize(
    "table, message",
    [
        (TABLE[:3], "the table has 3 rows for 4 output maps"),
        (((0,), (), (1,), (2,)), r"row 1 .* is \(\)"),
        (((0,), (1,), (0, 2, 0), (2,)), r"row 2 .* is \(0, 2, 0\)"),
        (((0,), (1,), (2,), (2, 3)), r"row 3 .* is \(2, 3\).*0\.\.2"),
        (((-1,), (1,), (2,), (2,)), r"row 0 .* is \(-1,\)"),
        (((0.5,), (1,), (2,), (2,)), r"connections is \(\(0.5,\).*sequence of integers"),
        (np.arange(4) % 3, r"connections is array\(\[0, 1, 2, 0\]\).*one per output map"),
    ],
)
def test_bad_tables_are_rejected(table, message):
    with pytest.raises(ValueError, match=message):
        Conv(4, 3, connections=table).init(jax.random.key(0), normal(1, 4, 4, 3))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"connections": ((0,), (1,)), "groups": 2}, "connection table cannot .* groups"),
        ({"shared_kernel": True, "groups": 2}, "shared_kernel cannot .* groups"),
        ({"groups": 3}, "groups is 3.* 2 input .* 2 output"),
        ({"groups": 0}, "groups is 0"),
        ({"features": 3, "groups": 2}, "groups is 2.* 2 input .* 3 output"),
        ({"strides": 0}, "strides is 0"),
        ({"kernel_size": 0}, "kernel_size is 0"),
        ({"padding": (1,)}, r"padding is \(1,\)"),
        ({"bias": "layer"}, "bias is 'layer'.*'map', 'unit' or 'none'"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size is \(3, 3, 3\)"),
        ({"kernel_size": 5}, r"spans \(5, 5\).*only \(4, 4\)"),
    ],
)
def test_conv_rejects(options, message):
    with pytest.raises(ValueError, match=message):
        Conv(**{"features": 2, "kernel_size": 3, **options}).init(
            jax.random.key(0), normal(1, 4, 4, 2)
        )


@pytest.mark.parametrize("layer", [Conv, LocalConv])
@pytest.mark.parametrize("bias, shape", [("map", (4,)), ("unit", (3, 2, 4)), ("none", None)])
def test_bias_per_map_per_unit_or_none(layer, bias, shape):
    x = normal(2, 5, 4, 3)
    parameters = parameters_of(layer(4, 3, bias=bias), x)
    kernel = parameters["kernel"]
    unbiased = np.asarray(apply(layer(4, 3, bias="none"), {"kernel": kernel}, x))
    assert shapes(parameters).get("bias") == shape
    assert_close(apply(layer(4, 3, bias=bias), parameters, x), unbiased + parameters.get("bias", 0))


@pytest.mark.parametrize(
    "layer, x, expected",
    [
        # LeCun et al. 1998: C1 and C3 of LeNet-5
        (Conv(6, 5), (1, 32, 32, 1), 122_304),
        (Conv(16, 5, connections=[range(6)] + [range(4)] * 9 + [range(3)] * 6),
         (1, 14, 14, 6), 151_600),
        # a shared kernel has fewer weights, not fewer connections
        (Conv(6, 5, shared_kernel=True), (1, 8, 8, 3), 4 * 4 * 6 * (25 * 3 + 1)),
        (Conv(4, 3, groups=2, bias="none"), (1, 7, 4), 5 * 4 * 3 * 2),
        (Conv(2, 2, strides=2, bias="unit"), (1, 4, 4, 4, 3), 2**3 * 2 * (8 * 3 + 1)),
        # LeCun 1989: with the output's 170, Net-3's 1226 links
        (LocalConv(1, 3, strides=2, padding="same"), (1, 16, 16, 1), 640),
        (LocalConv(1, 5, strides=2, padding="same"), (1, 8, 8, 1), 416),
        (LocalConv(2, 3, bias="none"), (1, 6, 3), 4 * 2 * 9),
        # LeNet-5's S2
        (Subsample(2), (1, 28, 28, 6), 5_880),
        (Subsample(3), (1, 6, 2), 2 * 2 * 4),
        (RadialBasis(tuple((0.0,) * 84 for _ in range(10))), (1, 84), 840),
    ],
)  # fmt: skip
def test_links_are_the_connections_of_one_example(layer, x, expected):
    inputs = jax.ShapeDtypeStruct(x, jnp.float32)
    outputs, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), inputs)
    assert layer.links(x, outputs.shape) == expected


# --- LocalConv --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, options, kernel",
    [
        ((2, 16, 16, 1), {"strides": 2, "padding": ((0, 1), (0, 1))}, (8, 8, 3, 3, 1, 2)),
        ((2, 7, 3), {}, (5, 3, 3, 2)),
    ],
)
def test_local_conv_is_the_operation_plus_a_bias(x, options, kernel):
    x, layer = normal(*x), LocalConv(2, 3, **options)
    parameters = parameters_of(layer, x)
    rank = x.ndim - 2
    assert shapes(parameters) == {"kernel": kernel, "bias": (*kernel[:rank], 2)}
    y = np.asarray(ops.local_conv(x, parameters["kernel"], **options))
    assert_close(apply(layer, parameters, x), y + parameters["bias"])


# --- initial weights --------------------------------------------------------------------------


def assert_fills(weights, bound):
    """Uniform in ±bound: never outside, and 150 draws or more come within 10% of it.

    (That all of them miss it has probability 0.9**150 = 1e-7.)
    """
    assert weights.size >= 150
    assert 0.9 * bound < np.abs(weights).max() <= bound
    assert np.abs(weights.mean()) < 0.25 * bound


@pytest.mark.parametrize(
    "scale, shape, bound",
    [(2.4, (5, 5, 2, 8), 2.4 / 50), (1.0, (40, 8), 1 / 40)],
)
def test_fan_in_uniform_fills_its_range(scale, shape, bound):
    weights = fan_in_uniform(scale)(jax.random.key(0), shape, jnp.float32)
    assert (weights.shape, weights.dtype) == (shape, jnp.float32)
    assert_fills(np.asarray(weights), bound)


def test_a_connected_map_sees_its_own_fan_in():
    layer = Conv(4, 13, connections=TABLE, kernel_init=fan_in_uniform())
    kernel = initial_kernel(layer, (1, 13, 13, 3))
    ends = np.cumsum([len(row) for row in TABLE])[:-1]
    for row, weights in zip(TABLE, np.split(kernel, ends, axis=-1), strict=True):
        assert_fills(weights, 2.4 / (13 * 13 * len(row)))


@pytest.mark.parametrize("table, fan_ins", [(None, [3] * 4), (TABLE, [len(row) for row in TABLE])])
def test_a_shared_kernel_sees_all_the_inputs_of_a_unit(table, fan_ins):
    """Not those in one input map only: a unit sums over all the maps that feed it."""
    layer = Conv(4, 13, connections=table, shared_kernel=True, kernel_init=fan_in_uniform())
    kernel = initial_kernel(layer, (1, 13, 13, 3))
    assert kernel.shape == (13, 13, 1, 4)
    for j, inputs in enumerate(fan_ins):
        assert_fills(kernel[..., j], 2.4 / (13 * 13 * inputs))


def test_a_local_conv_starts_with_other_weights_at_every_position():
    """Each position's fan-in is that of one unit: nine inputs, not nine for each position."""
    layer = LocalConv(4, 3, strides=2, padding=((0, 1), (0, 1)), kernel_init=fan_in_uniform())
    kernel = initial_kernel(layer, (1, 16, 16, 1))
    assert_fills(kernel, 2.4 / 9)
    assert len(np.unique(kernel.reshape(64, -1), axis=0)) == 64


# --- Subsample --------------------------------------------------------------------------------


@pytest.mark.parametrize("x, window", [((2, 7, 3), 3), ((2, 4, 6, 3), (2, 3))])
def test_subsampling_starts_as_the_mean(x, window):
    x, layer = normal(*x), Subsample(window)
    variables = layer.init(jax.random.key(0), x)
    assert shapes(variables["params"]) == {"coefficient": (3,), "bias": (3,)}
    assert_close(layer.apply(variables, x), ops.mean_pool(x, window))


def test_subsampling_has_a_coefficient_and_a_bias_per_map():
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)  # maps 0, 2, 4, 6 and 1, 3, 5, 7
    parameters = {"coefficient": np.float32([1, -0.5]), "bias": np.float32([0, 3])}
    assert apply(Subsample(2), parameters, x).tolist() == [[[[12.0, -5.0]]]]
    squared = Subsample(2, activation=jnp.square)
    assert apply(squared, parameters, x).tolist() == [[[[144.0, 25.0]]]]


# --- RadialBasis ------------------------------------------------------------------------------

CENTRES = np.sign(normal(10, 84))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_radial_basis_units_are_squared_distances(dtype):
    x, layer = jnp.asarray(normal(3, 84), dtype), RadialBasis(tuple(map(tuple, CENTRES.tolist())))
    distances, parameters = layer.init_with_output(jax.random.key(0), x)
    differences = np.asarray(x, np.float64)[:, None] - CENTRES
    assert parameters == {}
    assert distances.dtype == jnp.float32
    assert_close(distances, np.sum(differences**2, axis=-1))


def test_a_squared_distance_is_not_negative():
    near = np.repeat(CENTRES, 10, axis=0) + 1e-5 * normal(100, 84)
    layer = RadialBasis(tuple(map(tuple, CENTRES.tolist())))
    assert np.min(layer.apply({}, near)) >= 0


@pytest.mark.parametrize("shape", [(3, 83), (3, 2, 84)])
def test_radial_basis_units_reject_another_width(shape):
    with pytest.raises(ValueError, match=rf"84 inputs each; the inputs are \({shape[0]}, "):
        RadialBasis(tuple(map(tuple, CENTRES.tolist()))).apply({}, normal(*shape))


# --- types of the computation -----------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, options",
    [
        (Conv, {"features": 4, "kernel_size": 3}),
        (Conv, {"features": 4, "kernel_size": 3, "connections": TABLE}),
        (Conv, {"features": 4, "kernel_size": 3, "shared_kernel": True, "bias": "unit"}),
        (LocalConv, {"features": 4, "kernel_size": 3}),
        (Subsample, {}),
    ],
    ids=["Conv", "connections", "shared_kernel", "LocalConv", "Subsample"],
)
def test_computes_in_its_dtype_with_float32_parameters(layer, options):
    x = normal(2, 4, 5, 3)
    parameters = parameters_of(layer(**options), x)
    exact = apply(layer(**options), parameters, x)
    assert exact.dtype == jnp.float32
    half = layer(**options, dtype=jnp.bfloat16)
    created = jax.eval_shape(half.init, jax.random.key(0), x)
    assert {p.dtype for p in jax.tree.leaves(created)} == {jnp.dtype("float32")}
    rounded = apply(half, parameters, x)
    assert rounded.dtype == jnp.bfloat16
    assert_close(rounded, exact, 0.05)


@pytest.mark.parametrize("layer", [Conv(4, 3), LocalConv(4, 3), Subsample(2)])
def test_param_dtype_is_that_of_the_parameters(layer):
    """And the results', where the inputs have it as well and no other is asked for."""
    x = jax.ShapeDtypeStruct((1, 4, 4, 3), jnp.bfloat16)
    layer = layer.clone(param_dtype=jnp.bfloat16)
    result, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("bfloat16")}
    assert result.dtype == jnp.bfloat16
