"""Elementwise operations, and every operation under jit, vmap, grad and in each dtype."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnjax import ops
from tests.naive import arrays, assert_close

MODES = ("full", "same", "valid")
DTYPES = ("float32", "bfloat16", "float64")


@functools.cache
def keys(number):
    return jax.random.split(jax.random.key(0), number)


def test_scaled_tanh_maps_plus_and_minus_one_to_themselves():
    assert_close(ops.scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], rtol=0, atol=1e-4)


def test_scaled_tanh_curves_most_at_plus_and_minus_one():
    """Its constants put the largest |f''| near 1: at artanh(3 ** -0.5) * 3 / 2 = 0.988."""
    grid = jnp.linspace(-3, 3, 601)
    curvature = jax.vmap(jax.grad(jax.grad(ops.scaled_tanh)))(grid)
    assert_close(grid[jnp.argmin(curvature)], 0.988, atol=0.02)
    assert_close(grid[jnp.argmax(curvature)], -0.988, atol=0.02)


def test_scaled_tanhs_derivatives_are_the_formulas(x64):
    @jax.jit
    def derivatives(a):
        f = ops.scaled_tanh
        second = jax.grad(jax.grad(f)), jax.jacfwd(jax.jacfwd(f)), jax.hessian(f)
        return (
            jax.vmap(jax.grad(f))(a),
            jax.vmap(jax.jacfwd(f))(a),
            *(jax.vmap(g)(a) for g in second),
        )

    a = np.linspace(-9, 9, 1001)
    t = np.tanh(2 / 3 * a)
    first = 1.7159 * 2 / 3 * (1 - t**2)
    second = -2 * 1.7159 * (2 / 3) ** 2 * t * (1 - t**2)
    expected = first, first, second, second, second
    for found, formula in zip(derivatives(a), expected, strict=True):
        np.testing.assert_allclose(found, formula, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scaled_tanhs_derivative_is_never_negative(dtype):
    """Also where it saturates, although it is a difference of rounded numbers there."""
    a = np.linspace(-20, 20, 2001).astype(jnp.dtype(dtype))
    slope = jax.jit(jax.vmap(jax.grad(ops.scaled_tanh)))(a)
    assert slope.dtype == dtype
    assert np.all(slope >= 0)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_dropout_zeroes_or_scales_up_and_preserves_the_mean(rate):
    """The mean of n ones is 1 with variance rate / (1 - rate) / n; five deviations are allowed."""
    dropped = np.asarray(jax.jit(ops.dropout)(jnp.ones((50, 400)), keys(50), rate))
    assert_close(np.unique(dropped), [0, 1 / (1 - rate)])
    assert abs(dropped.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / dropped.size)


def test_dropout_at_rate_zero_is_the_identity():
    (x,) = arrays((4, 3, 50))
    np.testing.assert_array_equal(ops.dropout(x, keys(4), 0.0), x)


def test_an_examples_dropout_mask_depends_on_its_own_key_alone():
    x = jnp.ones((6, 5, 4))
    whole = ops.dropout(x, keys(6), 0.5)
    parts = [ops.dropout(x[part], keys(6)[part], 0.5) for part in (slice(3), slice(3, 6))]
    np.testing.assert_array_equal(whole, jnp.concatenate(parts))
    assert len(np.unique(whole.reshape(6, -1), axis=0)) == 6  # and differs between examples


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_dropout_rejects_keys_whose_masks_depend_on_the_batch(implementation):
    """Traced or not, and as raw numbers where they are read as such keys."""
    key = functools.partial(jax.random.key, 0, impl=implementation)
    message = f"implementation '{implementation}'.*'threefry2x32'"
    for drop in (ops.dropout, jax.jit(ops.dropout)):
        with pytest.raises(ValueError, match=message):
            drop(jnp.ones((2, 9)), jax.random.split(key(), 2), 0.5)
    with jax.default_prng_impl(implementation), pytest.raises(ValueError, match=message):
        ops.dropout(jnp.ones((2, 9)), jax.random.key_data(jax.random.split(key(), 2)), 0.5)


def test_dropout_takes_raw_keys():
    x = jnp.ones((3, 9))
    expected = ops.dropout(x, keys(3), 0.5)
    np.testing.assert_array_equal(ops.dropout(x, jax.random.key_data(keys(3)), 0.5), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_keeps_the_dtype(x64, dtype):
    """Although the rate, which is traced here, may be of a wider type than x."""
    result = jax.jit(ops.dropout)(jnp.ones((2, 9), dtype), keys(2), np.float32(0.25))
    assert result.dtype == dtype
    assert_close(np.unique(np.asarray(result, np.float64)), [0, 4 / 3], rtol=2**-8)


MASK = np.array([[1, 1, 1, 1, 1, 0, 1, 1], [0, 0, 1, 0, 1, 1, 0, 1]], bool)

OPERATIONS = {
    "convolve": (ops.convolve, (6,), (3,)),
    "convolve same": (functools.partial(ops.convolve, mode="same"), (4, 5), (3, 2)),
    "conv": (
        functools.partial(ops.conv, strides=2, padding="same", groups=2),
        (2, 5, 4, 4),
        (3, 2, 2, 2),
    ),
    "local_conv": (functools.partial(ops.local_conv, padding=1), (2, 4, 3), (4, 3, 3, 2)),
    "max_pool": (functools.partial(ops.max_pool, window=2), (2, 4, 5, 3)),
    "max_pool overlapping": (
        functools.partial(ops.max_pool, window=3, strides=2, padding="same"),
        (2, 5, 4, 3),
    ),
    "sum_pool": (functools.partial(ops.sum_pool, window=(2, 3)), (2, 4, 6, 3)),
    "sum_pool overlapping": (functools.partial(ops.sum_pool, window=3, strides=1), (2, 5, 3)),
    "mean_pool": (functools.partial(ops.mean_pool, window=2), (2, 4, 4, 3)),
    "max_over_time": (functools.partial(ops.max_over_time, mask=MASK), (2, 8, 3)),
    "k_max_over_time": (functools.partial(ops.k_max_over_time, k=3, mask=MASK), (2, 8, 3)),
    "scaled_tanh": (ops.scaled_tanh, (3, 4)),
    "scaled_tanh of maps": (ops.scaled_tanh, (3, 2, 2, 4)),
    "scale_and_shift": (ops.scale_and_shift, (3, 2, 5, 4), (4,), (4,)),
    "dropout": (lambda x: ops.dropout(x, keys(2), 0.5), (2, 9)),
}
every_operation = pytest.mark.parametrize(
    "function, shapes", [(f, shapes) for f, *shapes in OPERATIONS.values()], ids=OPERATIONS
)


@every_operation
def test_jit_and_vmap_give_what_a_loop_gives(function, shapes):
    batches = arrays(*((3, *shape) for shape in shapes))
    expected = [function(*(batch[i] for batch in batches)) for i in range(3)]
    assert_close(jax.jit(jax.vmap(function))(*batches), expected)


@every_operation
def test_gradients_are_finite_differences(x64, function, shapes):
    arguments = [jnp.asarray(x, jnp.float64) for x in arrays(*shapes)]
    check_grads(jax.jit(function), arguments, order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", DTYPES)
@every_operation
def test_dtype_is_kept(x64, function, shapes, dtype):
    """And the value is the float64 one up to the roundings of a few dozen additions."""
    arguments = [jnp.asarray(x, dtype) for x in arrays(*shapes)]
    function = jax.jit(function)
    result = function(*arguments)
    assert result.dtype == dtype
    exact = function(*(x.astype(jnp.float64) for x in arguments))
    tolerance = 8 * float(jnp.finfo(dtype).eps)
    assert_close(result, exact, rtol=tolerance, atol=tolerance * float(jnp.abs(exact).max()))


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ("int32", "int32", "float64"),
        ("int32", "float32", "float32"),
        ("bfloat16", "int32", "bfloat16"),
        ("float32", "float64", "float64"),
    ],
)
def test_convolve_promotes(x64, a, b, expected):
    result = ops.convolve(jnp.array([2, 1, 3, -1], a), jnp.array([-1, 1, 2], b), "valid")
    assert result.dtype == expected
    assert result.tolist() == [2, 6]
