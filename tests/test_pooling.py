"""Pooling over windows and over time: values, gradients, and the equality of its lowerings."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from cnnjax.ops import pooling
from tests.naive import arrays, assert_close, naive

MODES = ("full", "same", "valid")
DTYPES = ("float32", "bfloat16", "float64")


@pytest.mark.parametrize(
    "pool, expected",
    [
        (ops.max_pool, [[5, 4], [4, 6]]),
        (ops.mean_pool, [[2.75, 2.25], [1.25, 3]]),
        (ops.sum_pool, [[11, 9], [5, 12]]),
    ],
)
@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_pooling_the_lectures_picture(pool, expected, dtype):
    picture = jnp.array([[2, 3, 4, 0], [1, 5, 3, 2], [0, 4, 2, 3], [1, 0, 6, 1]], dtype)
    result = pool(picture[None, ..., None], 2)
    assert result.dtype == ("float32" if pool is ops.mean_pool else dtype)
    np.testing.assert_array_equal(result[0, ..., 0], expected)


@pytest.mark.parametrize(
    "pool, reduce, fill",
    [(ops.max_pool, np.max, -np.inf), (ops.mean_pool, np.mean, 0), (ops.sum_pool, np.sum, 0)],
    ids=["max", "mean", "sum"],
)
@pytest.mark.parametrize(
    "x, window, options",
    [
        ((2, 6, 3), (3,), {}),
        ((2, 8, 3), (3,), {}),  # leaves a remainder
        ((2, 7, 3), (3,), {"strides": 2}),
        ((2, 7, 3), (2,), {"strides": 3}),
        ((2, 7, 5, 2), (2, 3), {}),
        ((2, 6, 5, 2), (3, 2), {"strides": (2, 1), "padding": 1}),
        ((2, 6, 5, 2), (3, 3), {"strides": 2, "padding": "same"}),
        ((2, 5, 5, 2), (2, 2), {"padding": ((0, 1), (1, 0))}),
        ((1, 4, 5, 6, 2), (2, 1, 3), {}),
        ((1, 4, 5, 4, 2), (2, 3, 2), {"strides": 1, "padding": ((1, 0), (0, 0), (1, 1))}),
    ],
)
def test_pooling_equals_a_loop(pool, reduce, fill, x, window, options):
    (x,) = arrays(x)
    axes = tuple(range(1, x.ndim - 1))
    loop = {"strides": window, **options, "fill": fill}
    expected = naive(lambda _, patch: reduce(patch, axis=axes), x, window, **loop)
    assert_close(pool(x, window, **options), expected)


@pytest.mark.parametrize("dtype", ["int8", "float32", "bfloat16"])
def test_padding_never_wins_a_max(dtype):
    x = jnp.array([-5, -7, -9], dtype)[None, :, None]
    result = ops.max_pool(x, 2, padding=((1, 0),))
    assert result.dtype == dtype
    assert result[0, :, 0].tolist() == [-5, -7]


def test_the_first_of_equal_maxima_takes_the_whole_gradient():
    x = jnp.zeros((1, 2, 4, 1)).at[0, 1, 2:, 0].set(1)
    gradient = jax.grad(lambda x: ops.max_pool(x, 2).sum())(x)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[1, 0, 0, 0], [0, 0, 1, 0]])


def test_the_mean_of_small_integers_is_between_them():
    assert ops.mean_pool(jnp.full((1, 2, 2, 1), 200, jnp.uint8), 2).item() == 200


LOWERINGS = {
    "max": (pooling.first_max, pooling._window_max),
    "sum": (jnp.add, pooling._window_sum),
}


def lowerings(name, window):
    """The blocked and the plain lowering of side-by-side windows, as functions of x."""
    combine, plain = LOWERINGS[name]
    pads = ((0, 0),) * len(window)
    return (
        functools.partial(pooling.reduce_blocks, window=window, combine=combine),
        functools.partial(plain, window=window, strides=window, pads=pads),
    )


@pytest.mark.parametrize("name", LOWERINGS)
@pytest.mark.parametrize(
    "shape, window",
    [((2, 9, 2), (3,)), ((3, 7, 8, 2), (2, 3)), ((2, 5, 4, 6, 2), (2, 2, 3))],
)
def test_lowerings_agree_on_values_and_gradients_with_ties(name, shape, window):
    """Three different integers among windows of up to 12 elements: nearly all have a tie."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.integers(-1, 2, shape), jnp.float32)
    blocked, plain = (jax.jit(lowering) for lowering in lowerings(name, window))
    values = plain(x)
    np.testing.assert_array_equal(blocked(x), values)
    cotangent = jnp.asarray(random.integers(1, 9, values.shape), jnp.float32)
    gradients = [jax.vjp(lowering, x)[1](cotangent)[0] for lowering in (blocked, plain)]
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("lowering", [0, 1], ids=["blocks", "plain"])
def test_max_passes_a_nan_on_from_every_place_in_a_window(lowering):
    """One window per place; a comparison that drops NaN on one side would miss some of them."""
    x = np.zeros((4, 2, 4, 1), np.float32)
    for n, (i, j) in enumerate(itertools.product(range(2), range(2))):
        x[n, i, j] = np.nan
    result = lowerings("max", (2, 2))[lowering](jnp.asarray(x))
    np.testing.assert_array_equal(result[:, 0, :, 0], [[np.nan, 0]] * 4)


@pytest.mark.parametrize("lowering", [0, 1], ids=["blocks", "plain"])
def test_a_window_with_a_nan_keeps_its_gradient_to_itself(lowering):
    """One of its elements has all of it; which one is the lowering's choice."""
    x = jnp.array([[1, np.nan, 3, 0], [np.nan, 2, 5, 4]], jnp.float32)[None, ..., None]
    pooled, backward = jax.vjp(lowerings("max", (2, 2))[lowering], x)
    (gradient,) = backward(jnp.array([3.0, 7.0]).reshape(pooled.shape))
    left, right = np.split(np.asarray(gradient)[0, ..., 0], 2, axis=1)
    assert sorted(left.ravel()) == [0, 0, 0, 3]
    np.testing.assert_array_equal(right, [[0, 0], [7, 0]])


@pytest.mark.parametrize("dtype, lowest", [("int8", -128), ("float32", -np.inf)])
def test_a_window_wholly_in_padding_has_the_lowest_maximum(dtype, lowest):
    result = ops.max_pool(jnp.ones((1, 2, 1), dtype), 2, padding=((2, 0),))
    assert result[0, :, 0].tolist() == [lowest, 1]


@pytest.mark.parametrize("pool", [ops.max_pool, ops.mean_pool, ops.sum_pool])
@pytest.mark.parametrize(
    "options, same",
    [
        ({"window": np.int64(2)}, {"window": 2}),
        (
            {"window": np.array([3, 2]), "strides": np.uint8(1), "padding": np.int32(1)},
            {"window": (3, 2), "strides": 1, "padding": 1},
        ),
        (
            {"window": 2, "padding": np.array([[0, 1], [1, 0]])},
            {"window": 2, "padding": ((0, 1), (1, 0))},
        ),
    ],
)
def test_numpys_integers_are_integers(pool, options, same):
    (x,) = arrays((1, 5, 4, 2))
    np.testing.assert_array_equal(pool(x, **options), pool(x, **same))


@pytest.mark.parametrize("platform, scatters", [("cpu", False), ("cuda", False), ("tpu", True)])
def test_each_platform_gets_its_lowering_of_the_max_gradient(platform, scatters):
    gradient = jax.jit(jax.grad(lambda x: ops.max_pool(x, 2).sum()))
    lowered = gradient.trace(jnp.ones((1, 4, 4, 1))).lower(lowering_platforms=(platform,))
    assert ("select_and_scatter" in lowered.as_text()) is scatters


@pytest.mark.parametrize("pool", [ops.max_pool, ops.mean_pool, ops.sum_pool])
@pytest.mark.parametrize(
    "shape, window, options, message",
    [
        ((4, 4), 2, {}, r"\[N, \*spatial, C\], not an array \(4, 4\)"),
        ((1,) * 6, 1, {}, "not an array"),
        ((1, 4, 4, 1), 0, {}, "window is 0"),
        ((1, 4, 4, 1), (2,), {}, r"window is \(2,\)"),
        ((1, 4, 4, 1), np.int64(-1), {}, r"window is .*-1.*at least 1, or 2 of them"),
        ((1, 4, 4, 1), 2.5, {}, "window is 2.5; it must be an integer"),
        ((1, 4, 4, 1), (2, 2.5), {}, r"window is \(2, 2.5\); it must be an integer"),
        ((1, 4, 4, 1), 2, {"strides": (2, 0)}, r"strides is \(2, 0\)"),
        ((1, 4, 4, 1), (5, 2), {}, r"window spans \(5, 2\).*only \(4, 4\)"),
        ((1, 4, 4, 1), 2, {"padding": "SAME"}, "padding is 'SAME'"),
        ((1, 4, 4, 1), 2, {"padding": (1, 1)}, r"padding is \(1, 1\).*2 .before, after. pair"),
        ((1, 4, 4, 1), 2, {"padding": ((1,), (1,))}, r"padding is \(\(1,\), \(1,\)\)"),
        ((1, 4, 4, 1), 2, {"padding": ((0, 0.5),) * 2}, r"padding is \(\(0, 0.5\)"),
        ((1, 4, 4, 1), 2, {"padding": None}, "padding is None"),
        ((1, 4, 4, 1), 2, {"padding": np.ones((1, 2), int)}, r"padding is array\(\[\[1, 1\]\]\)"),
        ((1, 4, 4, 1), 2, {"padding": ((-1, 0), (0, 0))}, r"padding is \(\(-1, 0\)"),
    ],
)
def test_pooling_rejects(pool, shape, window, options, message):
    with pytest.raises(ValueError, match=message):
        pool(jnp.ones(shape), window, **options)


SEQUENCES = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [9, 8, 7, 6, 5, 4, 3, 2]], np.float32)[..., None]
MASK = np.array([[1, 1, 1, 1, 1, 0, 1, 1], [0, 0, 1, 0, 1, 1, 0, 1]], bool)


@pytest.mark.parametrize(
    "k, mask, expected",
    [
        (1, None, [[9], [9]]),
        (3, None, [[5, 9, 6], [9, 8, 7]]),
        (8, None, SEQUENCES[..., 0]),
        (1, MASK, [[6], [7]]),
        (3, MASK, [[4, 5, 6], [7, 5, 4]]),
    ],
)
def test_k_max_keeps_the_largest_in_order_of_appearance(k, mask, expected):
    np.testing.assert_array_equal(
        ops.k_max_over_time(SEQUENCES, k, mask=mask)[..., 0], np.asarray(expected)
    )


def test_k_max_orders_every_map_on_its_own():
    x = np.stack([SEQUENCES[0, :, 0], SEQUENCES[0, ::-1, 0]], axis=-1)[None]
    np.testing.assert_array_equal(ops.k_max_over_time(x, 3)[0], [[5, 6], [9, 9], [6, 5]])


@pytest.mark.parametrize("mask, expected", [(None, [9, 9]), (MASK, [6, 7])])
def test_max_over_time(mask, expected):
    np.testing.assert_array_equal(ops.max_over_time(SEQUENCES, mask=mask)[:, 0], expected)


def test_masked_padding_changes_nothing():
    """Whatever stands in the padding, a padded sequence pools as the sequence alone does."""
    (x,) = arrays((2, 5, 3))
    padded = np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=1e9)
    mask = np.arange(8)[None] < np.full((2, 1), 5)
    np.testing.assert_array_equal(ops.max_over_time(padded, mask=mask), ops.max_over_time(x))
    np.testing.assert_array_equal(
        ops.k_max_over_time(padded, 4, mask=mask), ops.k_max_over_time(x, 4)
    )


@pytest.mark.parametrize("dtype, lowest", [("float32", -np.inf), ("int8", -128)])
def test_an_empty_sequence_has_the_lowest_maximum(dtype, lowest):
    x = jnp.ones((1, 3, 2), dtype)
    assert ops.max_over_time(x, mask=jnp.zeros((1, 3), bool)).tolist() == [[lowest] * 2]


@pytest.mark.parametrize("k", [0, -1, 9])
def test_k_max_rejects_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"k is {k}; .* between 1 and the length, 8"):
        ops.k_max_over_time(SEQUENCES, k)
