"""The IDX format of the original MNIST files, plain or gzipped, with every defect named."""

import math
import struct
from pathlib import Path

import numpy as np

from cnnjax.errors import UserError
from cnnjax.files.foreign import unpacked

_UNSIGNED_BYTE = 0x08


def read(path: Path, rank: int) -> np.ndarray:
    """The array in an IDX file.

    A file is two zero bytes, a type code (8: unsigned byte), the number of axes, the size of
    each axis as a big-endian int32, then the values.

    Args:
        path: the file; gzip is recognised by its content.
        rank: the number of axes that is expected: 3 for images, 1 for labels.

    Returns:
        uint8 array of ``rank`` axes.

    Raises:
        UserError: a missing or unreadable file, a wrong magic number, a truncated file or one
            with bytes left over.
    """
    content = unpacked(path)
    magic = content[:4]
    expected = bytes([0, 0, _UNSIGNED_BYTE, rank])
    if magic != expected:
        what = {1: "labels", 3: "images"}.get(rank, f"{rank} axes")
        raise UserError(
            f"{path}: its magic number is 0x{magic.hex() or '(empty file)'}; "
            f"an IDX file of {what} starts with 0x{expected.hex()}"
        )
    start = 4 + 4 * rank
    if len(content) < start:
        raise UserError(f"{path}: ends after {len(content)} bytes, inside its header")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise UserError(
            f"{path}: its header announces {' x '.join(map(str, shape))} values, "
            f"but {len(content) - start:,} bytes follow instead of {math.prod(shape):,}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_pair(images: Path, labels: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8[N, H, W] and labels uint8[N] that belong together.

    Raises:
        UserError: as :func:`read`; also for different lengths, for none at all, and for a label
            that is not below ``classes``, naming the first one.
    """
    x, y = read(images, 3), read(labels, 1)
    if len(x) != len(y):
        raise UserError(f"{images} has {len(x):,} images, but {labels} has {len(y):,} labels")
    if not x.size:
        raise UserError(f"{images}: holds no image")
    bad = np.flatnonzero(y >= classes)
    if len(bad):
        raise UserError(
            f"{labels}: label {y[bad[0]]} of example {bad[0]:,} is out of range; "
            f"labels go from 0 to {classes - 1}"
        )
    return x, y
