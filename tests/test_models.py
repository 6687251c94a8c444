"""The LeNets: the sources' shapes and counts, and the wiring between layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from cnnjax.models import FullyConnected, LeNet1, LeNet4, LeNet5, ModernLeNet, summarize
from cnnjax.models.bitmaps import DIGITS
from cnnjax.models.lenet import C3_CONNECTIONS, LENET4_CONNECTIONS

MODELS = (LeNet1, LeNet4, LeNet5, ModernLeNet)
SIDES = {LeNet1: 28, LeNet4: 32, LeNet5: 32, ModernLeNet: 28}

every_model = pytest.mark.parametrize("model", MODELS)


def images(*shape):
    return np.random.default_rng(0).uniform(-0.1, 1.2, shape).astype(np.float32)


@functools.cache
def initialised(model):
    """A network's inputs, its variables, and what it makes of the inputs."""
    x = images(4, SIDES[model], SIDES[model], 1)
    key = jax.random.key(0, impl="rbg")  # compiles several times faster than threefry
    (logits, features), variables = jax.jit(model().init_with_output)(key, x)
    return x, variables, logits, features


def trace(model, *shape, **arguments):
    """The shapes and types of logits, features and variables; nothing is computed."""
    init = functools.partial(model.init_with_output, **arguments)
    (logits, features), variables = jax.eval_shape(
        init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    return logits, features, variables


# --- published numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, expected",
    [
        (LeNet1, {"C1": (24, 24, 4), "S2": (12, 12, 4), "C3": (8, 8, 12), "S4": (4, 4, 12)}),
        (LeNet4, {"C1": (28, 28, 4), "S2": (14, 14, 8), "C3": (10, 10, 16), "S4": (5, 5, 16),
                  "F5": (120,)}),
        (LeNet5, {"C1": (28, 28, 6), "S2": (14, 14, 6), "C3": (10, 10, 16), "S4": (5, 5, 16),
                  "C5": (120,), "F6": (84,)}),
        (ModernLeNet, {"C1": (24, 24, 32), "S2": (12, 12, 32), "C3": (8, 8, 64),
                       "S4": (4, 4, 64), "F5": (256,)}),
    ],
)  # fmt: skip
def test_feature_maps_have_the_published_sizes(model, expected):
    _, _, logits, features = initialised(model)
    assert {name: f.shape[1:] for name, f in features.items()} == expected | {"logits": (10,)}
    assert {len(f) for f in features.values()} == {4}
    np.testing.assert_array_equal(features["logits"], logits)


LENET5_COUNTS = {
    # layer: trained parameters, connections (LeCun et al. 1998, section II.B)
    "C1": (156, 122_304),
    "S2": (12, 5_880),
    "C3": (1_516, 151_600),
    "S4": (32, 2_000),
    "C5": (48_120, 48_120),
    "F6": (10_164, 10_164),
    "output": (0, 840),
}


def test_lenet5_has_the_papers_parameters_and_connections():
    layers = summarize(LeNet5(), (32, 32, 1))
    counts = {layer.name: (layer.parameters, layer.connections) for layer in layers}
    assert list(counts.items()) == list(LENET5_COUNTS.items())  # in order of use, too
    assert np.sum(list(counts.values()), axis=0).tolist() == [60_000, 340_908]


@pytest.mark.parametrize(
    "model, size, expected",
    [
        (LeNet1(), 28, {"C1": 104, "C3": 1_212, "output": 1_930}),
        (LeNet4(), 32, {"C1": 104, "S2": 16, "C3": 1_616, "S4": 32, "F5": 48_120, "output": 1_210}),
        (FullyConnected(hidden=()), 28, {"output": 7_850}),
        (FullyConnected(), 28, {"F1": 235_500, "output": 3_010}),
        (ModernLeNet(), 28, {"C1": 832, "C3": 51_264, "F5": 262_400, "output": 2_570}),
        (LeNet1(classes=3), 28, {"C1": 104, "C3": 1_212, "output": 579}),
        (ModernLeNet(3, maps=(2, 4), hidden=8), 28, {"C1": 52, "C3": 204, "F5": 520, "output": 27}),
    ],
)
def test_parameters_of_every_layer(model, size, expected):
    layers = summarize(model, (size, size, 1))
    assert {layer.name: layer.parameters for layer in layers} == expected
    assert layers[-1].outputs == (model.classes,)


@pytest.mark.parametrize(
    "model, expected",
    [(LeNet1, 3_246), (LeNet4, 51_098), (LeNet5, 60_000), (ModernLeNet, 317_066)],
)
def test_total_of_the_trained_parameters(model, expected):
    _, variables, *_ = initialised(model)
    assert set(variables) == {"params"}
    assert sum(p.size for p in jax.tree.leaves(variables)) == expected


def test_c3_is_connected_as_in_table_i():
    """LeCun et al. 1998, Table I, column by column."""
    printed = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
    assert ["".join(map(str, sorted(row))) for row in C3_CONNECTIONS] == printed.split()
    fed = [sum(i in row for row in C3_CONNECTIONS) for i in range(6)]
    assert fed == [10] * 6
    assert sum(map(len, C3_CONNECTIONS)) == 60


def test_lenet4s_tables_feed_all_maps_alike():
    assert len(set(LENET4_CONNECTIONS)) == 16
    assert {len(row) for row in LENET4_CONNECTIONS} == {4}
    assert [sum(i in row for row in LENET4_CONNECTIONS) for i in range(8)] == [8] * 8


def test_bitmaps_are_ten_different_codes():
    assert DIGITS.shape == (10, 12, 7)
    assert set(np.unique(DIGITS)) == {-1, 1}
    assert len(np.unique(DIGITS.reshape(10, -1), axis=0)) == 10


# --- wiring -----------------------------------------------------------------------------------


def test_lenet5s_logits_are_minus_squared_distances_to_the_bitmaps():
    _, _, logits, features = initialised(LeNet5)
    differences = np.asarray(features["F6"])[:, None] - DIGITS.reshape(10, 84)
    assert np.all(logits <= 0)
    np.testing.assert_allclose(logits, -np.sum(differences**2, axis=-1), rtol=1e-5)


def test_lenet5_takes_other_codes():
    logits, features, variables = trace(LeNet5(codes=((1, -1, 1), (-1, 1, 1))), 5, 32, 32, 1)
    assert (logits.shape, features["F6"].shape) == ((5, 2), (5, 3))
    assert variables["params"]["F6"]["kernel"].shape == (120, 3)


@pytest.mark.parametrize(
    "model, pool",
    [
        (LeNet1, lambda x: ops.mean_pool(x, 2)),
        (LeNet5, lambda x: ops.scaled_tanh(ops.mean_pool(x, 2))),  # at the initial coefficients
        (ModernLeNet, lambda x: ops.max_pool(x, 2)),
    ],
)
def test_subsampling_between_the_convolutions(model, pool):
    *_, features = initialised(model)
    for before, after in (("C1", "S2"), ("C3", "S4")):
        np.testing.assert_allclose(features[after], pool(features[before]), rtol=1e-5, atol=1e-6)


def test_lenet4_subsamples_every_map_of_c1_twice():
    _, variables, _, features = initialised(LeNet4)
    params = jax.tree.map(jnp.asarray, variables["params"])
    params["S2"]["coefficient"] = params["S2"]["coefficient"].at[5].mul(2)
    _, changed = LeNet4().apply({"params": params}, images(4, 32, 32, 1))
    pooled = ops.scaled_tanh(ops.mean_pool(features["C1"], 2))
    expected = np.repeat(pooled, 2, axis=-1)
    np.testing.assert_allclose(features["S2"], expected, rtol=1e-5, atol=1e-6)
    differs = np.abs(changed["S2"] - features["S2"]).max((0, 1, 2)) > 1e-3
    assert np.flatnonzero(differs).tolist() == [5]


@every_model
def test_activations_are_those_of_the_squashing_function(model):
    *_, features = initialised(model)
    hidden = np.concatenate([np.ravel(f) for name, f in features.items() if name != "logits"])
    if model is ModernLeNet:
        assert hidden.min() == 0
    else:
        assert hidden.min() < 0
        assert np.abs(hidden).max() < 1.7159


@every_model
def test_every_parameter_is_trained(model):
    """A layer whose output were dropped on the way would have a gradient of zero."""
    x, variables, *_ = initialised(model)

    def loss(variables):
        logits, _ = model().apply(variables, x)
        return -jax.nn.log_softmax(logits)[jnp.arange(4), jnp.arange(4)].mean()

    gradients = jax.jit(jax.grad(loss))(variables)
    zero = jax.tree_util.tree_map_with_path(
        lambda path, g: None if np.any(g) else jax.tree_util.keystr(path), gradients
    )
    assert jax.tree.leaves(zero) == []


# --- inputs, types, dropout -------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("size", [(16, 16, 1), (32, 32, 3), (28, 20, 2), (45, 37, 4)])
def test_other_sizes_and_channels(model, size):
    logits, features, variables = trace(model(), 3, *size)
    assert logits.shape == (3, 10)
    assert features["C1"].shape[1:3] == (size[0] - 4, size[1] - 4)
    assert variables["params"]["C1"]["kernel"].shape[:3] == (5, 5, size[2])


@every_model
@pytest.mark.parametrize("shape", [(1, 15, 28, 1), (1, 28, 15, 1), (1, 28, 28)])
def test_too_small_or_flat_images_are_rejected(model, shape):
    with pytest.raises(ValueError, match=rf"at least 16x16; the inputs are \(1, {shape[1]}, "):
        trace(model(), *shape)


@every_model
def test_bfloat16_computes_and_gives_float32_logits(model):
    x, variables, exact, _ = initialised(model)
    logits, features = jax.jit(model(dtype=jnp.bfloat16).apply)(variables, x)
    types = {name: f.dtype for name, f in features.items()}
    assert types.pop("logits") == logits.dtype == jnp.float32
    assert set(types.values()) == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(logits, exact, rtol=0.05, atol=0.05)
    *_, created = trace(model(dtype=jnp.bfloat16), *x.shape)
    assert {p.dtype for p in jax.tree.leaves(created)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("model, expected", [(LeNet1, []), (LeNet5, []), (ModernLeNet, [(2, 256)])])
def test_only_the_modern_network_drops_out(model, expected):
    dropped = []
    trace(model(), 2, 32, 32, 1, dropout=lambda x: dropped.append(x.shape) or x)
    assert dropped == expected


def test_dropout_stands_before_the_output():
    """With every hidden unit dropped, only the output's bias is left; features stay whole."""
    x, variables, _, features = initialised(ModernLeNet)
    logits, dropped = ModernLeNet().apply(variables, x, dropout=jnp.zeros_like)
    bias = np.broadcast_to(variables["params"]["output"]["bias"], (4, 10))
    np.testing.assert_array_equal(logits, bias)
    np.testing.assert_allclose(dropped["F5"], features["F5"], rtol=1e-5, atol=1e-6)
