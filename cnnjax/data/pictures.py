"""A user's own pictures, brought into the shape of a data set's inputs."""

from pathlib import Path

import numpy as np

from cnnjax.errors import UserError, reason

_ARRAYS = {".npy", ".npz"}


def read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The pictures in one file as uint8[N, H, W, C].

    Args:
        path: an image file (one picture, laid on white where it is transparent, resized; turned
            so that its background is black where its border is bright), or ``.npy`` / ``.npz``
            with uint8 values in 0..255 or floats in 0..1, of shape [N, H, W, C], [N, H, W] or
            [H, W].
        shape: (H, W, C) that the network was trained on.

    Raises:
        UserError: a missing or unreadable file, or an array of another shape or range.
    """
    try:
        if path.is_dir():
            raise UserError(f"--inputs={path}: is a folder; name an image, .npy or .npz file")
        if not path.is_file():
            raise UserError(f"--inputs={path}: there is no such file")
    except OSError as error:
        raise UserError(f"--inputs={path}: {error.strerror}") from None
    if path.suffix in _ARRAYS:
        return _from_array(path, shape)
    return _from_image(path, shape)[None]


def _from_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
        if isinstance(array, np.lib.npyio.NpzFile) != (path.suffix == ".npz"):
            raise ValueError(f"its content is not {path.suffix}")
        if path.suffix == ".npz":
            array = array[array.files[0]]
    except Exception as error:  # damaged bytes make the decoders raise whatever they happen to
        raise UserError(f"--inputs={path}: cannot be read as an array ({reason(error)})") from None
    found = array.shape
    if array.ndim == 2:
        array = array[None]
    if array.ndim == 3 and shape[-1] == 1:
        array = array[..., None]
    if array.shape[1:] != tuple(shape) or array.ndim != len(shape) + 1 or not len(array):
        expected = " x ".join(map(str, shape))
        raise UserError(f"--inputs={path}: its shape is {found}; the network takes N x {expected}")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise UserError(
                f"--inputs={path}: floats must lie in 0..1; these are in "
                f"{array.min():g}..{array.max():g}"
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"--inputs={path}: its type is {array.dtype}; it must be uint8 or float")
    return array


def _from_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    height, width, channels = shape
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode[0] in "IF":
                picture = Image.fromarray(_eight_bits(np.asarray(image)))
            elif image.mode.endswith("A") or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                picture = Image.alpha_composite(white, image.convert("RGBA"))
            else:
                picture = image
            picture = picture.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # damaged bytes make the decoders raise whatever they happen to
        raise UserError(f"--inputs={path}: cannot be read as an image ({reason(error)})") from None
    array = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    array = array.reshape(shape)
    border = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
    return 255 - array if channels == 1 and border.mean() > 127 else array


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Grey levels of more than 8 bits as uint8[H, W].

    Args:
        grey: [H, W]: uint16 in 0..65535, int32 in 0..65535 (0..255 if it has none above), or
            floats in 0..1.

    Raises:
        ValueError: levels beyond these.
    """
    low, high = grey.min(), grey.max()
    if np.issubdtype(grey.dtype, np.floating):
        white = 1
    else:
        white = 255 if grey.dtype == np.int32 and high <= 255 else 65535
    if not 0 <= low <= high <= white:
        raise ValueError(f"its grey levels lie in {low:g}..{high:g}, not in 0..{white}")
    return np.round(grey * (255 / white)).astype(np.uint8)
