"""The text format of the zip-code digits, plain or gzipped, with every defect named.

A line is an image: its label, written as a number like "6.0000", then the 256 grey values of its
16 rows, in -1..1 (background to ink), separated by spaces.
"""

from pathlib import Path

import numpy as np

from cnnjax.errors import UserError
from cnnjax.files.foreign import unpacked

SIZE = 16
CLASSES = 10
_VALUES = SIZE * SIZE
_SHOWN = 20  # bytes of a word that is no number


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images float32[N, 16, 16] in -1..1 and labels int32[N], in the order of the lines.

    Args:
        path: the file; gzip is recognised by its content.

    Raises:
        UserError: a missing, unreadable or truncated file, one without images, or the first line
            that is not an image, by its number.
    """
    lines = unpacked(path).splitlines()
    if not lines:
        raise UserError(f"{path}: holds no image")
    table = np.array([_line(path, i, line) for i, line in enumerate(lines, 1)], np.float64)
    images = table[:, 1:].reshape(-1, SIZE, SIZE).astype(np.float32)
    return images, table[:, 0].astype(np.int32)


def _line(path: Path, number: int, line: bytes) -> list[float]:
    """The label and the values of a line."""
    where = f"{path}, line {number}"
    numbers = []
    for position, word in enumerate(line.split()):
        try:
            numbers.append(float(word))
        except ValueError:
            text = ascii(word[:_SHOWN].decode("latin-1"))
            raise UserError(f"{where}: {text} ({_name(position)}) is not a number") from None
    if len(numbers) != 1 + _VALUES:
        raise UserError(
            f"{where}: holds {len(numbers)} numbers; it must be a label and {_VALUES} grey values"
        )
    if numbers[0] not in range(CLASSES):
        raise UserError(
            f"{where}: its label is {numbers[0]:g}; it must be one of 0 .. {CLASSES - 1}"
        )
    for position, value in enumerate(numbers[1:], 1):
        if not -1 <= value <= 1:
            raise UserError(f"{where}: {_name(position)} is {value:g}; it must lie in -1..1")
    return numbers


def _name(position: int) -> str:
    return f"grey value {position}" if position else "its label"
