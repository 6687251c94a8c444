"""A user's own pictures, seen as a data set's are."""

from pathlib import Path

import numpy as np

from cnnjax.data.images.decoding import ENDINGS, opened
from cnnjax.data.images.folders import files_in, images_of
from cnnjax.data.images.views import VIEWS
from cnnjax.errors import ArgumentError, UserError, reason

_ARRAYS = {".npy", ".npz"}


def expand(path: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder and below it, and the files that are none by their names.

    Raises:
        UserError: it has no image, or cannot be read.
    """
    try:
        images, others = images_of(files_in(path))
    except OSError as error:
        raise ArgumentError("inputs", path, error.strerror or reason(error)) from None
    if not images:
        raise ArgumentError(
            "inputs",
            path,
            f"the folder holds no image; names of images end in {', '.join(ENDINGS)}",
        )
    return images, others


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; what the system refuses is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read(path: Path, shape: tuple[int, ...], view: str = "stretched") -> np.ndarray:
    """The pictures in one file as uint8[N, H, W, C].

    Args:
        path: an image file (one picture, laid on white where it is transparent), or ``.npy`` /
            ``.npz`` with uint8 values in 0..255 or floats in 0..1, of shape [N, H, W, C],
            [N, H, W] or [H, W].
        shape: (H, W, C) that the network was trained on.
        view: what is seen of an image file: a name of
            :data:`~cnnjax.data.images.views.VIEWS`.

    Raises:
        UserError: a missing or unreadable file, or an array of another shape or range.
    """
    try:
        if path.is_dir():
            raise ArgumentError("inputs", path, "is a folder; name an image, .npy or .npz file")
        if not path.is_file():
            raise ArgumentError("inputs", path, "there is no such file")
    except OSError as error:
        raise ArgumentError("inputs", path, f"{error.strerror}") from None
    if path.suffix in _ARRAYS:
        return _from_array(path, shape)
    try:
        with opened(path) as image:
            height, width, channels = shape
            return VIEWS[view](image, (height, width, channels))[None]
    except UserError as error:
        raise ArgumentError("inputs", path, str(error).removeprefix(f"{path}: ")) from None


def _from_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
        if isinstance(array, np.lib.npyio.NpzFile) != (path.suffix == ".npz"):
            raise ValueError(f"its content is not {path.suffix}")
        if path.suffix == ".npz":
            array = array[array.files[0]]
    except Exception as error:  # damaged bytes make the decoders raise whatever they happen to
        raise ArgumentError(
            "inputs", path, f"cannot be read as an array ({reason(error)})"
        ) from None
    found = array.shape
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and shape[-1] == 1:
        array = array[..., None]
    if array.shape[1:] != tuple(shape) or array.ndim != len(shape) + 1 or not len(array):
        expected = " x ".join(map(str, shape))
        raise ArgumentError(
            "inputs", path, f"its shape is {found}; the network takes N x {expected}"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ArgumentError(
                "inputs",
                path,
                f"floats must lie in 0..1; these are in {array.min():g}..{array.max():g}",
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ArgumentError("inputs", path, f"its type is {array.dtype}; it must be uint8 or float")
    return array
