"""Convolution, activation and pooling in one: blocked lowerings against the plain composition."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from tests.agreement import (
    assert_agree,
    assert_is_plain,
    lowered,
    operands,
    plainly,
    quickly,
    thoroughly,
    weighed_gradients,
    with_gradients,
)

POOLS = {"max": ops.max_pool, "mean": ops.mean_pool, "sum": ops.sum_pool}
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "scaled_tanh": ops.scaled_tanh,
    "sin": jnp.sin,  # rises and falls
}
BLOCKED = (3, 9, 8, 2), (3, 2, 2, 3), (3,)  # inputs, kernel, bias
every_pool = pytest.mark.parametrize("pool", POOLS)
some_units = pytest.mark.parametrize(
    "pool, activation", [("max", "relu"), ("max", "sin"), ("mean", "tanh")]
)


@pytest.fixture
def platform(request):
    """What is lowered for this platform is what the given one would get."""
    if request.param == "gpu":
        request.getfixturevalue("as_on_a_gpu")


on_either = pytest.mark.parametrize("platform", ["cpu", "gpu"], indirect=True)


def unit(activation="relu", **options):
    """conv_pool with an activation by name, as a function of inputs, kernel and bias."""
    options |= {"activation": ACTIVATIONS[activation]}
    return lambda *operands: ops.conv_pool(*operands, **options)


@on_either
def test_conv_pool_is_pooling_of_the_activation_of_the_convolution(platform):
    arguments = operands(*BLOCKED)

    @quickly
    def found(*arguments):
        return [unit("sin", pool=p, window=(2, 3), padding="same")(*arguments) for p in POOLS]

    @quickly
    def expected(x, kernel, bias):
        maps = jnp.sin(ops.add_bias(ops.conv(x, kernel, padding="same"), bias))
        return [pool(maps, (2, 3)) for pool in POOLS.values()]

    assert_agree(found(*arguments), expected(*arguments))


@on_either
@pytest.mark.parametrize(
    "pool, activation",
    [
        *(("max", activation) for activation in ACTIVATIONS),
        *(("mean", activation) for activation in ("scaled_tanh", "sin")),
        *(("sum", activation) for activation in ("relu", "tanh")),
    ],
)
def test_every_pool_and_every_activation_equals_the_plain_one(platform, pool, activation):
    assert_is_plain(unit(activation, pool=pool), *BLOCKED, jit=thoroughly)


@on_either
@pytest.mark.parametrize(
    "shapes, options",
    [
        (BLOCKED, {"window": 3}),
        (BLOCKED, {"window": (3, 2), "padding": "same"}),
        (BLOCKED, {"window": 1, "padding": 1}),
        (BLOCKED, {"window": (1, 4), "padding": ((0, 3), (2, 0))}),
        (((3, 4, 5, 2), (3, 2, 2, 3), (3,)), {"window": (2, 4)}),
        (((2, 10, 9, 1), (5, 4, 1, 6)), {}),
        (((2, 5, 5, 2), (2, 5, 2, 3), (3,)), {"window": (3, 1)}),
        (((2, 6, 7, 8), (3, 3, 8, 16), (16,)), {}),
        (((2, 9, 2), (3, 2, 3), (3,)), {}),
    ],
    ids=[
        "remainder", "same", "no pooling", "pairs", "one unit", "no bias", "one column",
        "as many maps as are blocked", "1-D",
    ],
)  # fmt: skip
def test_every_geometry_equals_the_plain_one(platform, shapes, options):
    """By the maximum of sin, two functions that do not commute."""
    assert_is_plain(unit("sin", **options), *shapes)


@on_either
@some_units
def test_conv_pool_in_bfloat16_is_near_float32(platform, pool, activation):
    function = quickly(with_gradients(unit(activation, pool=pool)))
    half = function(*operands(*BLOCKED, dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("bfloat16")}
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(half))
    value, _ = plainly(function, *operands(*BLOCKED))
    assert_agree(np.float32(half[0]), np.asarray(value), 0.03)


@on_either
@some_units
def test_a_wider_bias_gives_the_wider_type(platform, pool, activation):
    """As the composition has it: what bfloat16 and float32 promote to."""
    arguments = operands(*BLOCKED)
    halves = operands(*BLOCKED, dtype="bfloat16")
    function = quickly(unit(activation, pool=pool))
    assert_agree(function(*halves[:2], arguments[2]), function(*arguments), 0.03)


@on_either
@some_units
def test_conv_pool_under_vmap_over_trials_is_a_loop(platform, pool, activation):
    x, kernels, biases = operands(BLOCKED[0], *((3, *shape) for shape in BLOCKED[1:]))
    each = with_gradients(unit(activation, pool=pool))
    actual = quickly(jax.vmap(each, in_axes=(None, 0, 0)))(x, kernels, biases)
    expected = [quickly(each)(x, *trial) for trial in zip(kernels, biases, strict=True)]
    assert_agree(actual, jax.tree.map(lambda *leaves: np.stack(leaves), *expected))


@on_either
@some_units
def test_forward_mode_through_conv_pool_is_the_plain_one(platform, pool, activation):
    arguments = operands(*BLOCKED)
    function = unit(activation, pool=pool)
    push = quickly(lambda *arguments: jax.jvp(function, arguments, tuple(map(jnp.cos, arguments))))
    assert_agree(push(*arguments), plainly(push, *arguments))


@on_either
@pytest.mark.parametrize("pool, activation", [("max", "sin"), ("mean", "scaled_tanh")])
def test_second_derivatives_of_conv_pool_are_the_plain_ones(platform, x64, pool, activation):
    arguments = operands((2, 4, 5, 1), (2, 2, 1, 2), (2,), dtype="float64")
    function = lambda *a: jnp.sum(unit(activation, pool=pool)(*a) ** 2)
    hessian = quickly(jax.hessian(function, argnums=(0, 1, 2)))
    actual = hessian(*arguments)
    assert all(np.any(block) for block in jax.tree.leaves(actual))
    assert_agree(actual, plainly(hessian, *arguments), 1e-12)


@on_either
@some_units
def test_conv_pool_takes_an_empty_batch(platform, pool, activation):
    assert_is_plain(unit(activation, pool=pool), (0, *BLOCKED[0][1:]), *BLOCKED[1:])


# --- who takes which lowering -----------------------------------------------------------------


def operations(function, arguments, platform):
    """Which of these a function is lowered to for a platform."""
    text = lowered(function, arguments, platform)
    names = ("convolution", "dot_general", "reduce_window", "select_and_scatter", "concatenate")
    return {name for name in names if f"stablehlo.{name}" in text}


every_kind = pytest.mark.parametrize("activation", ["relu", "sin"])


@every_kind
@every_pool
def test_a_tpu_gets_the_plain_conv_pool(pool, activation):
    arguments, function = operands(*BLOCKED), unit(activation, pool=pool)
    assert operations(function, arguments, "tpu") == {"convolution", "reduce_window"}
    found = operations(weighed_gradients(function, 0, 1, 2), arguments, "tpu")
    assert "convolution" in found
    assert ("select_and_scatter" in found) is (pool == "max")
    assert not found & {"dot_general", "concatenate"}


@pytest.mark.parametrize("target", ["cpu", "cuda"])
@every_kind
@every_pool
def test_cpu_and_gpu_get_a_product_of_blocks(pool, activation, target):
    arguments, function = operands(*BLOCKED), unit(activation, pool=pool)
    for program in (function, weighed_gradients(function, 0, 1, 2)):
        found = operations(program, arguments, target)
        assert "dot_general" in found
        assert not found & {"convolution", "reduce_window", "select_and_scatter"}


@pytest.mark.parametrize("maps, turned", [(3, True), (16, True), (17, False)])
@every_pool
def test_on_cpu_examples_are_innermost_where_maps_are_few(pool, maps, turned):
    shapes = (5, 9, 8, 2), (3, 2, 2, maps), (maps,)
    function = unit("sin", pool=pool)
    examples, rows, columns, _ = jax.eval_shape(function, *operands(*shapes)).shape
    units = f"tensor<{4 * maps}x{rows * columns * examples}xf32>"
    assert (units in lowered(function, operands(*shapes), "cpu")) is turned
    assert units not in lowered(function, operands(*shapes), "cuda")
    assert_is_plain(function, *shapes)


@on_either
@some_units
def test_without_the_gradient_in_the_input_there_is_a_product_less(platform, pool, activation):
    def products(*operand_numbers):
        function = weighed_gradients(unit(activation, pool=pool), *operand_numbers)
        return lowered(function, operands(*BLOCKED), "cpu").count("stablehlo.dot_general")

    assert products(1, 2) == products(0, 1, 2) - 1


@pytest.mark.parametrize(
    "shapes, options",
    [
        (((2, 6, 6, 8), (3, 3, 8, 17), (17,)), {}),
        (((2, 6, 6, 2), (3, 3, 2, 3), (4, 4, 3)), {}),
        (((2, 9, 9, 2), (3, 3, 2, 3), (3,)), {"strides": 2}),
        (((2, 9, 9, 2), (3, 3, 2, 3), (3,)), {"dilation": 2}),
        (((2, 9, 9, 2), (3, 3, 1, 4), (4,)), {"groups": 2}),
        (((2, 9, 2), (4, 2, 4), (4,)), {}),
        (((2, 14, 14, 2), (3, 3, 2, 3), (3,)), {"window": 12}),
    ],
    ids=["many maps", "bias per unit", "strides", "dilation", "groups", "1-D", "large window"],
)
def test_a_convolution_stays_one_where_blocks_would_not_do(shapes, options):
    for target in ("cpu", "cuda"):
        assert operations(unit(**options), operands(*shapes), target) == {"convolution"}


# --- what it refuses --------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["min", "Max", None])
def test_conv_pool_rejects_an_unknown_pool(pool):
    x, kernel = operands((1, 4, 4, 1), (3, 3, 1, 1))
    with pytest.raises(ValueError, match=f"pool is {pool!r}; .* one of max, mean, sum"):
        ops.conv_pool(x, kernel, pool=pool)


@pytest.mark.parametrize(
    "x, kernel, options",
    [
        ((2, 8, 3), (3, 3, 3, 4), {}),
        ((2, 3), (3, 4), {}),
        ((2, 8, 8, 3), (3, 3, 2, 4), {}),
        ((2, 8, 8, 4), (3, 3, 2, 3), {"groups": 2}),
        ((2, 8, 8, 1), (0, 3, 1, 1), {}),
        ((2, 4, 8, 1), (5, 3, 1, 1), {}),
        ((2, 8, 8, 1), (3, 3, 1, 1), {"strides": 0}),
        ((2, 8, 8, 1), (3, 3, 1, 1), {"dilation": 4}),
        ((2, 8, 8, 1), (3, 3, 1, 1), {"padding": "full"}),
        ((2, 8, 8, 1), (3, 3, 1, 1), {"padding": ((1, 1),)}),
    ],
)
def test_conv_pool_rejects_what_conv_rejects_in_the_same_words(x, kernel, options):
    with pytest.raises(ValueError) as expected:
        ops.conv(np.ones(x), np.ones(kernel), **options)
    with pytest.raises(ValueError) as found:
        ops.conv_pool(np.ones(x), np.ones(kernel), **options)
    assert str(found.value) == str(expected.value)


@every_pool
@pytest.mark.parametrize("window", [0, (2,), 2.5, (7, 2)])
def test_conv_pool_rejects_what_pooling_rejects_in_the_same_words(pool, window):
    with pytest.raises(ValueError) as expected:
        POOLS[pool](np.ones((1, 6, 6, 3)), window)
    with pytest.raises(ValueError) as found:
        ops.conv_pool(np.ones((1, 8, 8, 1)), np.ones((3, 3, 1, 3)), pool=pool, window=window)
    assert str(found.value) == str(expected.value)


@every_pool
@pytest.mark.parametrize("bias", [(1,), (5,), (6, 6, 1), (6, 4)])
def test_conv_pool_rejects_a_bias_that_does_not_fit(pool, bias):
    x, kernel = np.ones((1, 8, 8, 1)), np.ones((3, 3, 1, 4))
    with pytest.raises(ValueError, match=rf"\(1, 6, 6, 4\).*{re.escape(str(bias))}"):
        ops.conv_pool(x, kernel, np.ones(bias), pool=pool)
