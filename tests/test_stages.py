"""Stages of networks, and features of a part of their parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from cnnjax.models import CifarResNet, LeNet1, LeNet5, ModernLeNet
from cnnjax.transfer import Transferred, features_of, stages
from cnnjax.transfer.stages import shapes
from tests.transfer_task import drawn


@pytest.mark.parametrize(
    "network, side, feature, expected",
    [
        (LeNet1(), 28, "S4", ["C1", "C3"]),
        (LeNet1(), 28, "S2", ["C1"]),
        (LeNet5(), 32, "F6", ["C1", "S2", "C3", "S4", "C5", "F6"]),
        (ModernLeNet(), 28, "logits", ["C1", "C3", "F5", "logits"]),
    ],
)
def test_stages_are_the_features_with_parameters_of_their_own(network, side, feature, expected):
    found = stages(network, (side, side, 1), feature)
    assert list(found) == expected
    for stage, paths in found.items():
        module = "output" if stage == "logits" else stage
        assert {path.split("/")[0] for path in paths} == {module}


def test_stages_of_a_residual_network():
    found = stages(CifarResNet(20), (8, 8, 3), "pooled")
    assert {stage: len(paths) for stage, paths in found.items()} == {
        # conv1 and a norm of 2; a stage has 3 blocks, each of 2 convolutions and 2 norms.
        "stem": 3, "layer1": 18, "layer2": 18, "layer3": 18,
    }  # fmt: skip
    assert all(path.startswith("layer2.") for path in found["layer2"])


def test_features_of_some_parameters():
    x = np.random.RandomState(0).rand(2, 28, 28, 1).astype(np.float32)
    params = LeNet1().init(jax.random.key(0), x)["params"]
    _, features = LeNet1().apply({"params": params}, x)
    found = features_of(LeNet1(), {"params": {"C1": params["C1"]}}, x)
    assert list(found) == ["C1", "S2"]
    np.testing.assert_array_equal(found["S2"], features["S2"])


def test_a_transferred_network_is_the_network_and_a_linear_classifier():
    x = np.random.RandomState(0).rand(2, 28, 28, 1).astype(np.float32)
    params = unflatten_dict(drawn(shapes(LeNet1(), (28, 28, 1))), sep="/")
    model = Transferred(LeNet1(), "S2", classes=3)
    tree = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    assert tree["backbone"].keys() == {"C1"} and tree["head"]["kernel"].shape == (12 * 12 * 4, 3)
    own = {"backbone": {"C1": params["C1"]}}
    own["head"] = {"kernel": np.full((576, 3), 0.5, np.float32), "bias": np.float32([0, 1, 2])}
    logits, features = jax.jit(model.apply)({"params": own}, x)
    assert features.keys() == {"C1", "S2", "logits"}
    expected = 0.5 * jnp.asarray(features["S2"]).reshape(2, -1).sum(1, keepdims=True)
    np.testing.assert_allclose(logits, expected + jnp.array([[0, 1, 2]]), rtol=1e-5)


def test_maps_may_be_averaged():
    model = Transferred(LeNet1(), "S2", classes=3, reading="mean")
    tree = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    assert tree["head"]["kernel"].shape == (4, 3)
