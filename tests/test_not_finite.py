"""Infinite values and NaN in operands: what the fast lowerings promise about them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from tests.agreement import operands, plainly, quickly

VALUES = (np.inf, -np.inf, np.nan)


def assert_finite_is_plain(function, *arguments):
    """Where it is finite it is the plain value; where that is not finite, it is not either."""
    found = np.asarray(quickly(function)(*arguments))
    expected = np.asarray(plainly(quickly(lambda *a: function(*a)), *arguments))
    finite = np.isfinite(found)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=0, atol=1e-5)
    return finite, np.isfinite(expected)


def with_one(arguments, place, at, value):
    """``arguments`` with ``value`` at index ``at`` of the one at ``place``."""
    changed = [np.array(argument) for argument in arguments]
    changed[place][at] = value
    return changed


@pytest.mark.parametrize("pool", ["max", "mean", "sum"])
@pytest.mark.parametrize(
    "activation", [jax.nn.relu, jnp.tanh, jnp.sin], ids=["relu", "tanh", "sin"]
)
def test_what_conv_pool_gives_beside_a_value_that_is_not_finite(pool, activation):
    arguments = operands((2, 9, 8, 2), (3, 2, 2, 3), (3,))
    unit = lambda *a: ops.conv_pool(*a, pool=pool, activation=activation, window=2)
    for value, at in itertools.product(VALUES, [(0, 0, 0, 0), (1, 4, 5, 1), (0, 8, 7, 0)]):
        finite, _ = assert_finite_is_plain(unit, *with_one(arguments, 0, at, value))
        assert finite[1 - at[0]].all()  # another image knows nothing of it
    for value in VALUES:
        assert_finite_is_plain(unit, *with_one(arguments, 1, (1, 1, 0, 1), value))
        assert_finite_is_plain(unit, *with_one(arguments, 2, (1,), value))


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 8, 9, 3), (3, 4, 3, 5)],
        [(2, 4, 5, 3), (4, 5, 3, 6)],
        [(2, 9, 4), (3, 4, 5)],
        [(2, 16, 16, 64), (3, 3, 64, 64)],
    ],
    ids=["rows", "product", "shifts", "winograd"],
)
def test_what_conv_gives_beside_a_value_that_is_not_finite(shapes):
    arguments = operands(*shapes)
    for value in VALUES:
        at = (0, *(size // 2 for size in shapes[0][1:]))
        finite, expected = assert_finite_is_plain(ops.conv, *with_one(arguments, 0, at, value))
        assert finite[1].all()
        assert not finite[~expected].any()


@pytest.mark.parametrize("value", VALUES)
def test_the_winner_of_a_maximum_over_time_is_a_window(value):
    table, *kernels = operands((7, 3), (2, 3, 4), (3, 3, 2))
    ids = np.array([[0, 1, 2, 3, 4, 5], [1, 1, 6, 2, 6, 0]], np.int32)
    table[6, 1] = value
    run = lambda *a: ops.max_of_lookup_conv(a[0], ids, a[1:])
    maxima, winners = quickly(run)(table, *kernels)
    expected, first = plainly(quickly(lambda *a: run(*a)), table, *kernels)
    np.testing.assert_allclose(maxima, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(winners, first)
    assert np.asarray(winners).max() <= 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_images_keep_their_type(dtype):
    images = jnp.asarray(np.linspace(0, 1, 2 * 4 * 6 * 3).reshape(2, 4, 6, 3), dtype)
    for changed in (ops.enlarge(images, 2), ops.resize_by_area(images, 3)):
        assert changed.dtype == images.dtype
    exact = ops.enlarge(images.astype(jnp.float32), 2)
    np.testing.assert_array_equal(ops.enlarge(images, 2), exact.astype(dtype))
