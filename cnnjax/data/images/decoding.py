"""Image files -> pictures, the one way for all of them.

Nothing is turned by what a camera says of its orientation (EXIF), as torchvision's ``ImageFolder``
does not do it either: ``Image.open(file).convert("RGB")``.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.errors import UserError, reason

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of names, in any case, that a folder's images have: those of torchvision's ``ImageFolder``."""

# JPEG is decoded at a half, a quarter or an eighth of its size where that is still so many times
# the size wanted.  On the 397 ants and bees, such an image of 32 to 224 pixels differs from that of
# the whole one by 0.2 to 0.5 of 255 levels on average, and nowhere by more than 14.
_REDUCED = 2


@contextlib.contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator["Image"]:
    """The image in a file, its pixels not yet read.

    Args:
        path: of the file.
        content: what is in it, where that is known already.

    Raises:
        UserError: there is no such file, or what is read inside the ``with`` is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            yield image
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except Exception as error:  # damaged bytes make the decoders raise whatever they happen to
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it has no known format" if unknown else reason(error)
        raise UserError(f"{path}: cannot be read as an image ({why})") from None


def decoded(image: "Image", channels: int) -> "Image":
    """An opened image as a picture in grey (1 channel) or RGB (3).

    Transparent ones are laid on white; grey levels of more than 8 bits are scaled.

    Raises:
        ValueError, OSError and others: damaged content.
    """
    from PIL import Image

    image.load()
    if image.mode[0] in "IF":
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode.endswith("A") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def reduce(image: "Image", pixels: float, wanted: float) -> int:
    """Have an opened JPEG decoded at 1/f of its size; others stay whole.

    Args:
        image: of which nothing is decoded yet.
        pixels: of a side of it, of which ...
        wanted: ... so many will be made.

    Returns:
        f, which is 8, 4, 2 or 1: the largest that leaves twice the pixels that are wanted.
    """
    factor = max(f for f in (1, 2, 4, 8) if f == 1 or pixels / f >= _REDUCED * wanted)
    if image.format != "JPEG" or factor == 1:
        return 1
    width = image.width
    done = image.draft(None, (width // factor, image.height // factor))
    return round(width / done[1][2]) if done else 1


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
