"""Loops in numpy that operations are held against, and arrays to try them on."""

import numpy as np
from jax import lax


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
