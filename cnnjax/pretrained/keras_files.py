"""Keras's HDF5 files of weights (``.h5``), read without Keras."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import UserError, reason
from cnnjax.models.resnet import IMAGENET_DEVIATION, IMAGENET_MEAN

_LEAVES = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}

# SqueezeNet 1.1: its layers -> places in torchvision's sequence, the names of our own.
_FIRES = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
_SQUEEZENET = {
    "conv1": "features.0",
    "conv10": "classifier.1",
    **{
        f"fire{fire}/{theirs}": f"features.{place}/{ours}"
        for fire, place in _FIRES.items()
        for theirs, ours in (
            ("squeeze1x1", "squeeze"),
            ("expand1x1", "expand1x1"),
            ("expand3x3", "expand3x3"),
        )
    },
}
# What its inputs are: blue, green, red in 0..255 less these means; and what ours are: red, green,
# blue in 0..1, normalised as torchvision does.
_CAFFE_MEAN = np.array((103.939, 116.779, 123.68))
_MEAN, _DEVIATION = np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by layer and kind: ``conv1/kernel``, ``conv1/bias``.

    Kernels are laid out as Flax's.  Of SqueezeNet 1.1 the names are those of
    :class:`cnnjax.models.SqueezeNet`, and the first convolution is changed so that it takes what
    torchvision's takes, red, green and blue normalised with ImageNet's means and deviations,
    instead of blue, green and red in 0..255 less the means: a linear change of its kernel and bias,
    so that the result is the same.

    Args:
        path: of an HDF5 file.

    Raises:
        UserError: h5py is not installed, or the file is damaged.
        OSError: a file that cannot be read.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{path}: is HDF5 (Keras), which needs h5py: pip install h5py, or -e '.[keras]'"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            arrays = _arrays(file.get("model_weights", file), h5py)
    except Exception as error:  # damaged bytes can raise anything
        raise UserError(f"{path}: is truncated or damaged ({reason(error)})") from None
    modules = {name.rpartition("/")[0] for name in arrays}
    return _squeezenet(arrays) if modules <= _SQUEEZENET.keys() else arrays


def _arrays(file: Any, h5py: Any) -> dict[str, np.ndarray]:
    """Layer by layer in the file's order; of a file that lists no layers by the paths in it."""
    stored: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        # Neither links nor data of other files are followed.
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
            stored[name] = item[()]

    file.visititems(keep)
    if "layer_names" not in file.attrs:
        return {name.partition(":")[0]: array for name, array in stored.items()}
    arrays = {}
    for layer in map(_text, file.attrs["layer_names"]):
        names = [f"{layer}/{_text(name)}" for name in file[layer].attrs["weight_names"]]
        weights = [stored[name] for name in names]
        kinds = [_LEAVES.get(kind, kind) for kind in map(_last, names)]
        if [min(array.ndim, 2) for array in weights] in ([2], [2, 1]):  # whatever their names
            kinds = ["kernel", "bias"]
        arrays |= {f"{layer}/{k}": array for k, array in zip(kinds, weights, strict=False)}
    return arrays


def _squeezenet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition("/")
        found[f"{_SQUEEZENET[layer]}/{kind}"] = array
    kernel, bias = (f"features.0/{kind}" for kind in ("kernel", "bias"))
    if kernel in found and bias in found and found[kernel].ndim == 4:
        # Nothing is padded there, so what is added to every pixel is added to the bias.
        colours = found[kernel][:, :, ::-1].astype(np.float64)
        scale, shift = 255 * _DEVIATION, 255 * _MEAN - _CAFFE_MEAN[::-1]
        type_ = found[kernel].dtype
        added = np.einsum("hwio,i->o", colours, shift)
        found[kernel] = (colours * scale[:, None]).astype(type_)
        found[bias] = (found[bias] + added).astype(type_)
    return found


def _last(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
