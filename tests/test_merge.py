"""Weights of others in a network: converted by hand, and what does not fit is named."""

import numpy as np
import pytest

from cnnjax.pretrained.merge import merge
from tests.data_files import refused

PARAMS = {
    "layer1.0": {
        "conv1": {"kernel": np.zeros((3, 3, 2, 4), np.float32)},
        "bn1": {name: np.zeros(4, np.float32) for name in ("scale", "bias", "mean", "var")},
    },
    "fc": {"kernel": np.zeros((4, 5), np.float32), "bias": np.zeros(5, np.float32)},
}
BN = ("weight", "bias", "running_mean", "running_var")


def state():
    random = np.random.RandomState(1)
    shapes = {"layer1.0.conv1.weight": (4, 2, 3, 3)}
    shapes |= {f"layer1.0.bn1.{name}": (4,) for name in BN}
    shapes |= {"fc.weight": (5, 4), "fc.bias": (5,)}
    return {name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items()}


def test_layouts_are_converted():
    arrays = state() | {"layer1.0.bn1.num_batches_tracked": np.array(7)}
    merged = merge(PARAMS, arrays, "file")
    kernel = merged["layer1.0"]["conv1"]["kernel"]
    for out, channel, i, j in np.ndindex(4, 2, 3, 3):
        assert kernel[i, j, channel, out] == arrays["layer1.0.conv1.weight"][out, channel, i, j]
    assert np.array_equal(merged["fc"]["kernel"], arrays["fc.weight"].T)
    assert np.array_equal(merged["fc"]["bias"], arrays["fc.bias"])
    for ours, theirs in zip(("scale", "bias", "mean", "var"), BN, strict=True):
        assert np.array_equal(merged["layer1.0"]["bn1"][ours], arrays[f"layer1.0.bn1.{theirs}"])


def test_our_own_names_are_taken_as_they_are():
    own = {"fc/kernel": np.ones((4, 5), np.float16), "fc/bias": np.ones(5, np.float32)}
    merged = merge({"fc": PARAMS["fc"]}, own, "run")
    assert merged["fc"]["kernel"].dtype == np.float32
    assert merged["fc"]["kernel"].all()


def test_missing_and_left_over_names_are_refused_unless_allowed():
    arrays = state()
    del arrays["fc.bias"], arrays["layer1.0.bn1.weight"]
    arrays |= {f"more.{i}": np.zeros(1) for i in range(9)}
    found = "does not fit", "2 of the network's", "layer1.0/bn1/scale", "fc/bias"
    refused(lambda: merge(PARAMS, arrays, "file"), "file", *found, "9 of its", "more.0", "6 more")
    keep = ["fc/*", "*/scale"]
    refused(lambda: merge(PARAMS, arrays, "file", keep=keep), "more.0")
    merged = merge(PARAMS, arrays, "file", keep=keep, ignore=["more.*"])
    assert not merged["fc"]["kernel"].any()
    assert not merged["layer1.0"]["bn1"]["scale"].any()
    assert merged["layer1.0"]["bn1"]["bias"].all()


def test_a_pattern_that_matches_nothing_is_refused():
    for option in ("keep", "ignore"):
        refused(
            lambda option=option: merge(PARAMS, state(), "file", **{option: ["fd/*"]}), "'fd/*'"
        )


def test_another_shape_is_refused_unless_it_is_kept():
    arrays = state() | {"fc.weight": np.zeros((7, 4)), "fc.bias": np.zeros(7)}
    words = "fc.weight", "(7, 4)", "fc/kernel", "(4, 5)"
    refused(lambda: merge(PARAMS, arrays, "file"), *words)
    merged = merge(PARAMS, arrays, "file", keep=["fc/*"])
    assert merged["fc"] is not None and merged["fc"]["bias"].shape == (5,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    arrays = state() | {"fc.bias": np.full(5, value, np.float32)}
    refused(lambda: merge(PARAMS, arrays, "file"), "fc.bias", "infinite or not a number")


def test_integers_are_no_weights():
    arrays = state() | {"fc.bias": np.zeros(5, int)}
    refused(lambda: merge(PARAMS, arrays, "file"), "fc.bias", "int64", "float32")


def test_folded_batch_normalisation_is_recognised():
    """What it computes is the folded convolution's output: factor 1, offset its bias."""
    arrays = {name: array for name, array in state().items() if "bn1" not in name}
    arrays["layer1.0.conv1.bias"] = bias = np.arange(4, dtype=np.float32)
    norm = merge(PARAMS, arrays, "file")["layer1.0"]["bn1"]
    assert np.array_equal(norm["scale"] / np.sqrt(norm["var"] + np.float32(1e-5)), np.ones(4))
    assert np.array_equal(norm["bias"], bias)
    assert not norm["mean"].any()


def test_a_bias_beside_its_batch_normalisation_is_left_over():
    arrays = state() | {"layer1.0.conv1.bias": np.zeros(4, np.float32)}
    refused(lambda: merge(PARAMS, arrays, "file"), "layer1.0.conv1.bias")
