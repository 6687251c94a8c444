"""Files of rows (``.jsonl``): one JSON object a line, each with a checksum of its own.

A process that is killed can leave the last line unfinished, which is one without a line feed; that
line is dropped.  Anything else that is not as it was written is damage, and refused by its number.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError, reason
from cnnjax.files.durable import write_text

Row = dict[str, Any]

_CHECKSUM = "checksum"
_DIGITS = 16


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row at the end."""
    with open(path, "ab") as file:
        file.write(_line(row).encode())


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file anew, whole or not at all."""
    write_text(path, "".join(map(_line, rows)))


def read(
    path: Path,
    fields: Mapping[str, type | tuple[type, ...]],
    identity: Callable[[Row], object],
) -> list[Row]:
    """The rows of a file, in its order; none where there is no file.

    Args:
        path: of the file.
        fields: what every row must have, and of which type.
        identity: no two rows may be the same in this.

    Raises:
        UserError: the first line that is damaged, by its number.
        OSError: a file that cannot be read.
    """
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    if last.endswith(b"}"):  # only its line feed is missing
        lines.append(last)
    found: list[Row] = []
    first: dict[object, int] = {}
    for number, line in enumerate(lines, 1):
        row = _row(f"{path}: line {number:,}", line)
        for field, kind in fields.items():
            if not isinstance(row.get(field), kind):
                raise UserError(f"{path}: line {number:,} has no {field!r} of the right type")
        before = first.setdefault(identity(row), number)
        if before != number:
            raise UserError(f"{path}: line {number:,} is of the same as line {before:,}")
        found.append(row)
    return found


def _row(place: str, line: bytes) -> Row:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is damaged ({reason(error)}); {_REMEDY}") from None
    if not isinstance(row, dict) or row.pop(_CHECKSUM, None) != _checksum(row):
        raise UserError(f"{place} is damaged (its checksum is missing or another); {_REMEDY}")
    return row


_REMEDY = "put back what it was, or remove the line and what it stood for is computed again"


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, _CHECKSUM: _checksum(row)}) + "\n"


def _checksum(row: Mapping[str, Any]) -> str:
    """Of the row's JSON text, in the order of its fields."""
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:_DIGITS]
