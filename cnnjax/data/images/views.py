"""What a network sees of a picture: views, each ``(opened image, (H, W, C)) -> uint8[H, W, C]``."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.data.images.decoding import decoded, reduce

if TYPE_CHECKING:
    from PIL.Image import Image

View = Callable[["Image", tuple[int, int, int]], np.ndarray]
Box = tuple[int, int, int, int]
"""(left, top, width, height), in pixels."""

_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
_TRIES = 10


def centre(image: "Image", shape: tuple[int, int, int]) -> np.ndarray:
    """The central square of what is left when the shorter side is resized to 8/7 of the square's.

    For 224 pixels that is torchvision's ``Resize(256)``, ``CenterCrop(224)``, to the bit where the
    file is no JPEG that is much larger (:func:`~cnnjax.data.images.decoding.reduce`).
    """
    from PIL.Image import Resampling

    size, _, channels = shape
    side = round(size * 8 / 7)
    width, height = image.size
    short = min(width, height)
    resized = int(side * width / short), int(side * height / short)
    factor = reduce(image, short, side)
    whole = (0, 0, width / factor, height / factor)
    picture = decoded(image, channels).resize(resized, Resampling.BILINEAR, whole)
    left, top = (round((pixels - size) / 2) for pixels in resized)
    return _array(picture.crop((left, top, left + size, top + size)), shape)


def stretched(image: "Image", shape: tuple[int, int, int]) -> np.ndarray:
    """All of it, each pixel the mean of what it covers; light ink on black, where that is grey.

    That is a picture of a single character: one whose border is bright is turned.
    """
    from PIL.Image import Resampling

    height, width, channels = shape
    picture = decoded(image, channels).resize((width, height), Resampling.BOX)
    array = _array(picture, shape)
    border = np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])
    return 255 - array if channels == 1 and border.mean() > 127 else array


VIEWS: Mapping[str, View] = {"stretched": stretched, "centre": centre}
"""Views by the names that a data set's provenance has for them."""


def random_crop(
    image: "Image", shape: tuple[int, int, int], random: np.random.RandomState
) -> np.ndarray:
    """A part of it at random, resized to the shape; mirrored half of the time.

    torchvision's ``RandomResizedCrop`` with its default scale and ratio, and
    ``RandomHorizontalFlip``: the same boxes with the same probabilities, the same pixels of a box.
    """
    from PIL import Image

    height, width, channels = shape
    left, top, across, down = random_box(random, *image.size)
    mirrored = random.random_sample() < 0.5
    factor = reduce(image, min(across / width, down / height), 1)
    outer = (
        math.floor(left / factor),
        math.floor(top / factor),
        math.ceil((left + across) / factor),
        math.ceil((top + down) / factor),
    )
    inner = (
        left / factor - outer[0],
        top / factor - outer[1],
        (left + across) / factor - outer[0],
        (top + down) / factor - outer[1],
    )
    picture = decoded(image, channels).crop(outer)  # what is outside must not shine in
    picture = picture.resize((width, height), Image.Resampling.BILINEAR, inner)
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _array(picture, shape)


def random_box(random: np.random.RandomState, width: int, height: int) -> Box:
    """A box in a picture, of 8 to 100 % of its area and with sides of a ratio of 3/4 to 4/3.

    Area (uniform) and ratio (uniform in its logarithm) are drawn until the box fits, its place
    then uniformly; after ten draws it is the largest of a permitted ratio in the middle.

    Source: torchvision, ``RandomResizedCrop.get_params``; Szegedy et al. 2014, section 6.
    """
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_AREA)
        ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left = random.randint(width - across + 1)
            return left, random.randint(height - down + 1), across, down
    across, down = width, height
    if width / height < _RATIO[0]:
        down = round(width / _RATIO[0])
    elif width / height > _RATIO[1]:
        across = round(height * _RATIO[1])
    return (width - across) // 2, (height - down) // 2, across, down


def _array(picture: "Image", shape: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(picture).reshape(shape)
