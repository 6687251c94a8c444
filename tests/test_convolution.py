"""Convolution against hand-computed values, naive loops, NumPy, SciPy and its own properties."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from tests.naive import arrays, assert_close, naive

MODES = ("full", "same", "valid")
DTYPES = ("float32", "bfloat16", "float64")


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
        ((2, 8, 4), (3, 1, 4), {"groups": 2}, r"\(3, 1, 4\) in 2 group.*\(2, 8, 4\)"),
        ((2, 8, 4), (3, 2, 3), {"groups": 2}, "groups is 2.* 4 input .* 3 output"),
        ((2, 8, 5), (3, 2, 4), {"groups": 2}, "groups is 2.* 5 input .* 4 output"),
        ((2, 8, 4), (3, 2, 4), {"groups": 0}, "groups is 0"),
        ((2, 8, 1), (0, 1, 1), {}, r"kernel's window is \(0,\)"),
        ((2, 4, 1), (5, 1, 1), {}, r"spans \(5,\).*only \(4,\)"),
        ((2, 6, 1), (3, 1, 1), {"dilation": 3}, r"spans \(7,\).*only \(6,\)"),
        ((2, 8, 1), (3, 1, 1), {"strides": 0}, "strides is 0"),
        ((2, 8, 1), (3, 1, 1), {"dilation": (1, 1)}, r"dilation is \(1, 1\)"),
        ((2, 8, 1), (3, 1, 1), {"padding": "full"}, "padding is 'full'"),
        ((2, 8, 1), (3, 1, 1), {"padding": -1}, "padding is -1"),
        ((2, 8, 1), (3, 1, 1), {"padding": ((1, 1), (1, 1))}, "or 1 .before, after. pair"),
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
        ((2, 2, 1), (3, 0, 1, 2), r"kernel's window is \(0,\)"),
    ],
)
def test_local_conv_rejects(x, kernel, message):
    with pytest.raises(ValueError, match=message):
        ops.local_conv(jnp.ones(x), jnp.ones(kernel))
