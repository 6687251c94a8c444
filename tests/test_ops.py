"""cnnjax.ops against hand-computed values, naive loops in numpy, and their own properties."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from cnnjax import ops
from cnnjax.ops import pooling

MODES = ("full", "same", "valid")
DTYPES = ("float32", "bfloat16", "float64")


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def arrays(*shapes):
    """One float32 array per shape; normal, so no two elements are equal."""
    random = np.random.default_rng(0)
    return [random.normal(size=shape).astype(np.float32) for shape in shapes]


def assert_close(actual, expected, rtol=1e-5, atol=1e-5):
    actual, expected = (np.asarray(values, np.float64) for values in (actual, expected))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol, atol)


def pairs(padding, sizes, window, strides, dilation):
    """(before, after) per axis, with jax.lax's word on what "same" means."""
    if padding == "same":
        reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
        return lax.padtype_to_pads(sizes, reach, strides, "SAME")
    if padding == "valid":
        padding = 0
    return [(padding, padding)] * len(sizes) if isinstance(padding, int) else padding


def naive(function, x, window, *, strides=1, padding="valid", dilation=1, fill=0.0):
    """function(p, patch float[N, *window, C]) -> float[N, F] at every position p, in a loop."""
    rank = len(window)
    each = lambda value: (value,) * rank if isinstance(value, int) else value
    strides, dilation = each(strides), each(dilation)
    pads = pairs(padding, x.shape[1:-1], window, strides, dilation)
    x = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)], constant_values=fill)
    axes = list(zip(x.shape[1:-1], window, strides, dilation, strict=True))
    outputs = [(n - (w - 1) * d - 1) // s + 1 for n, w, s, d in axes]
    units = []
    for p in np.ndindex(*outputs):
        spans = [
            slice(i * s, i * s + (w - 1) * d + 1, d)
            for i, (_, w, s, d) in zip(p, axes, strict=True)
        ]
        units.append(function(p, x[:, *spans]))
    return np.moveaxis(np.reshape(units, (*outputs, len(x), -1)), rank, 0)


# --- convolve -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode, expected",
    [("full", [-2, 1, 2, 6, 5, -2]), ("same", [1, 2, 6, 5]), ("valid", [2, 6])],
)
def test_convolve_gives_the_lectures_table(mode, expected):
    result = ops.convolve(jnp.array([2, 1, 3, -1]), jnp.array([-1, 1, 2]), mode)
    assert result.dtype == jnp.float32  # integers are promoted
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "a, b, modes",
    [
        ((7,), (3,), MODES),
        ((7,), (4,), MODES),
        ((5,), (5,), MODES),
        # numpy's "same" takes the longer operand's length, ours the first operand's
        ((3,), (7,), ("full", "valid")),
    ],
)
def test_convolve_equals_numpy(a, b, modes):
    a, b = arrays(a, b)
    for mode in modes:
        assert_close(ops.convolve(a, b, mode), np.convolve(a, b, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "a, b",
    [
        ((7,), (4,)),
        ((3,), (7,)),
        ((3,), (6,)),
        ((5, 6), (2, 3)),
        ((2, 3), (5, 6)),
        ((4, 3, 5), (2, 3, 2)),
        ((2, 3, 2), (4, 3, 5)),
    ],
)
def test_convolve_equals_scipy(a, b, mode):
    signal = pytest.importorskip("scipy.signal")
    a, b = arrays(a, b)
    assert_close(ops.convolve(a, b, mode), signal.convolve(a, b, mode, method="direct"))


@pytest.mark.parametrize("a, b", [((6,), (3,)), ((4, 5), (3, 7)), ((3, 2, 4), (2, 2, 2))])
def test_full_convolution_is_commutative_and_the_impulse_its_identity(a, b):
    """Substituting m -> n - m in the sum exchanges the operands; delta(m) keeps one term."""
    impulse = np.ones((1,) * len(a), np.float32)
    a, b = arrays(a, b)
    assert_close(ops.convolve(a, b), ops.convolve(b, a))
    for mode in MODES:
        np.testing.assert_array_equal(ops.convolve(a, impulse, mode), a)


@pytest.mark.parametrize(
    "a, b, mode, message",
    [
        ((4,), (3,), "causal", "'causal'.*'full', 'same' or 'valid'"),
        ((4,), (3, 3), "full", r"\(4,\) and \(3, 3\)"),
        ((), (), "full", r"one to three axes.*\(\) and \(\)"),
        ((2,) * 4, (2,) * 4, "full", "one to three axes"),
        ((0,), (3,), "full", r"not empty: \(0,\) and \(3,\)"),
        ((3,), (0,), "valid", "not empty"),
        ((4, 2), (2, 4), "valid", r"spans \(2, 4\).*only \(4, 2\)"),
    ],
)
def test_convolve_rejects(a, b, mode, message):
    with pytest.raises(ValueError, match=message):
        ops.convolve(jnp.ones(a), jnp.ones(b), mode)


# --- conv and local_conv ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, kernel, options",
    [
        ((2, 7, 3), (3, 3, 4), {}),
        ((2, 8, 4), (3, 2, 6), {"strides": 2, "padding": 2, "groups": 2}),
        ((2, 9, 3), (3, 1, 3), {"dilation": 3, "padding": "same", "groups": 3}),
        ((2, 6, 5, 2), (3, 2, 2, 3), {}),
        ((2, 6, 5, 2), (3, 4, 2, 3), {"padding": "same"}),
        ((2, 8, 7, 2), (3, 3, 2, 3), {"strides": (2, 3), "padding": "same"}),
        ((1, 7, 8, 4), (2, 3, 2, 2), {"dilation": (3, 2), "strides": (1, 2), "groups": 2}),
        ((2, 5, 5, 2), (4, 3, 2, 3), {"padding": ((0, 2), (3, 1)), "strides": 2}),
        ((1, 4, 5, 6, 2), (2, 3, 2, 2, 3), {"strides": (1, 2, 1)}),
        ((1, 5, 4, 3, 2), (2, 2, 2, 1, 4), {"padding": 1, "dilation": (2, 1, 2), "groups": 2}),
    ],
)
def test_conv_equals_a_loop(x, kernel, options):
    x, kernel = arrays(x, kernel)
    loop = dict(options)
    groups = loop.pop("groups", 1)

    def units(_, patch):
        blocks = zip(np.split(patch, groups, -1), np.split(kernel, groups, -1), strict=True)
        return np.concatenate([np.tensordot(p, k, kernel.ndim - 1) for p, k in blocks], -1)

    assert_close(ops.conv(x, kernel, **options), naive(units, x, kernel.shape[:-2], **loop))


@pytest.mark.parametrize("a, b", [((8,), (3,)), ((5, 6), (2, 3)), ((4, 5, 3), (2, 3, 2))])
def test_conv_with_the_flipped_kernel_is_convolution(a, b):
    a, b = arrays(a, b)
    flipped = np.flip(b)[..., None, None]
    assert_close(ops.conv(a[None, ..., None], flipped)[0, ..., 0], ops.convolve(a, b, "valid"))


@pytest.mark.parametrize(
    "x, kernel, options, message",
    [
        ((2, 8, 3), (3, 3, 3, 4), {}, r"\(2, 8, 3\) and \(3, 3, 3, 4\)"),
        ((2, 3), (3, 4), {}, r"\(2, 3\) and \(3, 4\)"),
        ((1, 2, 2, 2, 2, 1), (1, 1, 1, 1, 1, 1), {}, "one to three spatial axes"),
        ((2, 8, 3), (3, 2, 4), {}, r"\(3, 2, 4\).*\(2, 8, 3\)"),
        ((2, 8, 4), (3, 2, 3), {"groups": 2}, r"\(3, 2, 3\) in 2 group.*\(2, 8, 4\)"),
        ((2, 4, 1), (5, 1, 1), {}, r"spans \(5,\).*only \(4,\)"),
        ((2, 6, 1), (3, 1, 1), {"dilation": 3}, r"spans \(7,\).*only \(6,\)"),
        ((2, 8, 1), (3, 1, 1), {"strides": 0}, "strides is 0"),
        ((2, 8, 1), (3, 1, 1), {"dilation": (1, 1)}, r"dilation is \(1, 1\)"),
        ((2, 8, 1), (3, 1, 1), {"padding": "full"}, "padding is 'full'"),
        ((2, 8, 1), (3, 1, 1), {"padding": -1}, "padding is -1"),
        ((2, 8, 1), (3, 1, 1), {"padding": ((1, 1), (1, 1))}, "or 1 .before, after. pairs"),
    ],
)
def test_conv_rejects(x, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        ops.conv(jnp.ones(x), jnp.ones(kernel), **options)


LOCAL_CASES = [
    ((2, 6, 2), (3, 2, 3), {}),
    ((2, 7, 6, 2), (3, 2, 2, 3), {"strides": (2, 1), "padding": "same"}),
    ((2, 5, 5, 1), (3, 3, 1, 2), {"strides": 2, "padding": ((0, 1), (2, 0))}),
    ((1, 3, 4, 3, 2), (2, 2, 2, 2, 2), {"padding": 1, "strides": 2}),
]


@pytest.mark.parametrize("x, shape, options", LOCAL_CASES)
def test_local_conv_equals_a_loop(x, shape, options):
    window = shape[:-2]
    (x,) = arrays(x)
    positions = naive(lambda p, _: np.zeros((len(x), 1)), x, window, **options).shape[1:-1]
    (kernel,) = arrays((*positions, *shape))
    expected = naive(
        lambda p, patch: np.tensordot(patch, kernel[p], len(shape) - 1), x, window, **options
    )
    assert_close(ops.local_conv(x, kernel, **options), expected)


@pytest.mark.parametrize("x, shape, options", LOCAL_CASES)
def test_local_conv_with_one_kernel_everywhere_is_conv(x, shape, options):
    x, kernel = arrays(x, shape)
    expected = ops.conv(x, kernel, **options)
    everywhere = np.broadcast_to(kernel, (*expected.shape[1:-1], *shape))
    assert_close(ops.local_conv(x, everywhere, **options), expected)


@pytest.mark.parametrize(
    "x, kernel, message",
    [
        ((2, 6, 1), (5, 3, 1, 2), r"takes \(4,\) positions.*weights for \(5,\)"),
        ((2, 6, 3), (4, 3, 1, 2), r"\(2, 6, 3\) and \(4, 3, 1, 2\)"),
        ((2, 6, 6, 1), (4, 3, 1, 2), r"\(2, 6, 6, 1\) and \(4, 3, 1, 2\)"),
        ((2, 2, 1), (1, 3, 1, 2), r"spans \(3,\).*only \(2,\)"),
    ],
)
def test_local_conv_rejects(x, kernel, message):
    with pytest.raises(ValueError, match=message):
        ops.local_conv(jnp.ones(x), jnp.ones(kernel))


# --- pooling ----------------------------------------------------------------------------------


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
    "max": (pooling._first_max, pooling._window_max),
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


@pytest.mark.parametrize("platform, scatters", [("cpu", False), ("cuda", True)])
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
        ((1, 4, 4, 1), 2, {"strides": (2, 0)}, r"strides is \(2, 0\)"),
        ((1, 4, 4, 1), (5, 2), {}, r"window spans \(5, 2\).*only \(4, 4\)"),
        ((1, 4, 4, 1), 2, {"padding": "SAME"}, "padding is 'SAME'"),
    ],
)
def test_pooling_rejects(pool, shape, window, options, message):
    with pytest.raises(ValueError, match=message):
        pool(jnp.ones(shape), window, **options)


# --- pooling over time ------------------------------------------------------------------------

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


# --- one element at a time --------------------------------------------------------------------


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_keeps_the_dtype(x64, dtype):
    """Although the rate, which is traced here, may be of a wider type than x."""
    result = jax.jit(ops.dropout)(jnp.ones((2, 9), dtype), keys(2), np.float32(0.25))
    assert result.dtype == dtype
    assert_close(np.unique(np.asarray(result, np.float64)), [0, 4 / 3], rtol=2**-8)


# --- every operation under the transformations ------------------------------------------------

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
