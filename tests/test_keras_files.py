"""Keras's HDF5 files: their names and layouts, and SqueezeNet's arithmetic."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import SqueezeNet
from cnnjax.pretrained import weights
from cnnjax.pretrained.merge import merge
from tests.data_files import refused

FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128),
         6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}  # fmt: skip


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def write(path, layers, inside=None, listed=True):
    """A file of Keras's: layer -> {its name for an array: the array}."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        root = file.create_group(inside) if inside else file
        if listed:
            root.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, arrays in layers.items():
            group = root.require_group(layer)
            if listed:
                group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group[name] = array
    return path


@pytest.mark.parametrize("inside", [None, "model_weights"])
def test_layers_are_named_and_kinds_are_flax_s(tmp_path, inside):
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    layers = {
        "input_1": {},
        "dense/a": {"dense/a/kernel:0": numbers(3, 4), "dense/a/bias:0": numbers(4)},
        "conv": {"uniform1": numbers(3, 3, 2, 5), "conv_b": numbers(5)},
        "plain": {"plain_W": numbers(1, 1, 5, 6)},
        "bn": {f"bn/{kind}:0": numbers(6, seed=i) for i, kind in enumerate(norm)},
    }
    read = weights.read(write(tmp_path / "a.h5", layers, inside))
    assert list(read) == [
        "dense/a/kernel", "dense/a/bias", "conv/kernel", "conv/bias", "plain/kernel",
        "bn/scale", "bn/bias", "bn/mean", "bn/var",
    ]  # fmt: skip
    stored = [array for arrays in layers.values() for array in arrays.values()]
    for array, expected in zip(read.values(), stored, strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array, expected)


def test_a_file_without_a_list_of_layers_has_paths(tmp_path):
    path = write(tmp_path / "a.h5", {"layers/conv/vars": {"0": numbers(2, 3)}}, listed=False)
    read = weights.read(path)
    assert list(read) == ["layers/conv/vars/0"]
    assert np.array_equal(read["layers/conv/vars/0"], numbers(2, 3))


def test_data_of_other_files_is_not_followed(tmp_path):
    h5py = pytest.importorskip("h5py")
    write(tmp_path / "other.h5", {"a": {"w": numbers(2, 3)}})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "a/w")
        outside = [(str(tmp_path / "other.h5"), 0, 24)]
        file.create_dataset("outside", (3,), np.float64, external=outside)
    refused(lambda: weights.read(tmp_path / "a.h5"), "holds no weights")


def test_a_damaged_file(tmp_path):
    path = write(tmp_path / "a.h5", {"a": {"w": numbers(20, 30)}})
    path.write_bytes(path.read_bytes()[:900])
    refused(lambda: weights.read(path), path, "truncated or damaged")


def test_without_h5py_it_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    monkeypatch.setitem(sys.modules, "h5py", None)
    refused(lambda: weights.read(path), path, "needs h5py", "pip install h5py")


def squeezenet_layers(scale=0.05):
    """Weights with the names of F. Malli's SqueezeNet for Keras, and random values."""
    shapes = {"conv1": (3, 3, 3, 64)}
    for fire, (inputs, squeezed, expanded) in FIRES.items():
        shapes[f"fire{fire}/squeeze1x1"] = (1, 1, inputs, squeezed)
        shapes[f"fire{fire}/expand1x1"] = (1, 1, squeezed, expanded)
        shapes[f"fire{fire}/expand3x3"] = (3, 3, squeezed, expanded)
    layers = {}
    for i, (layer, shape) in enumerate(shapes.items()):
        kernel = numbers(*shape, seed=i) * np.sqrt(2 / np.prod(shape[:3]))
        layers[layer] = {f"uniform{i}": kernel, f"{layer}_b": numbers(shape[-1], seed=99 + i) / 9}
    layers["conv1"]["uniform0"] *= scale
    return layers


def correlated(x, kernel, bias, strides=1, padding=0):
    """As the definition has it, one place of the window after the other; then ReLU."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((side - len(kernel)) // strides + 1 for side in x.shape[1:3])
    y = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j in np.ndindex(kernel.shape[:2]):
        part = x[:, i:, j:][:, : strides * height : strides, : strides * width : strides]
        y += part @ kernel[i, j].astype(np.float64)
    return np.maximum(y + bias, 0)


def pooled(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    return windows[:, ::2, ::2].max((-2, -1))


def malli(layers, images):
    """What his network computes, in NumPy: blue, green, red less Caffe's means; nothing padded
    at the strided layers."""
    x = images[..., ::-1] - np.array([103.939, 116.779, 123.68])
    x = pooled(correlated(x, *layers["conv1"].values(), strides=2))
    for fire in FIRES:
        if fire in (4, 6):
            x = pooled(x)
        x = correlated(x, *layers[f"fire{fire}/squeeze1x1"].values())
        narrow = correlated(x, *layers[f"fire{fire}/expand1x1"].values())
        wide = correlated(x, *layers[f"fire{fire}/expand3x3"].values(), padding=1)
        x = np.concatenate([narrow, wide], -1)
    return x


def ours(path, images):
    network = SqueezeNet()
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    merged = merge(params, weights.read(path), path, keep=["classifier.1/*"])
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    inputs = ((images / 255 - mean) / deviation).astype(np.float32)
    return network.apply({"params": merged}, inputs)[1]["fire9"]


IMAGES = np.random.RandomState(3).randint(0, 256, (2, 64, 64, 3)).astype(np.float64)


def test_squeezenet_is_the_same_network_on_our_inputs(tmp_path):
    layers = squeezenet_layers()
    expected = malli(layers, IMAGES)
    assert expected.shape == (2, 3, 3, 512)
    found = ours(write(tmp_path / "a.h5", layers), IMAGES)
    np.testing.assert_allclose(found, expected, atol=2e-5 * expected.max())


def test_the_published_squeezenet(real_data):
    h5py = pytest.importorskip("h5py")
    path = next((real_data / "weights" / "squeezenet").glob("*.h5"))
    with h5py.File(path) as file:
        layers = {
            layer: {name: file[layer][name][()] for name in file[layer].attrs["weight_names"]}
            for layer in ["conv1", *(f"fire{f}/{part}" for f in FIRES for part in
                          ("squeeze1x1", "expand1x1", "expand3x3"))]
        }  # fmt: skip
    expected = malli(layers, IMAGES)
    found = ours(path, IMAGES)
    np.testing.assert_allclose(found, expected, atol=2e-5 * expected.max())
    assert (expected > 0).mean() > 0.02
