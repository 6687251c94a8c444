"""What the campaign must know of a reader."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader of files that others made.

    Attributes:
        seeds: valid files' contents, which are mutated; made when asked for.
        read: ``path -> value``, or a UserError of one line.
        name: that the file gets: some readers look at its ending.
        checked: whether a changed byte can always be told (checksums): then what is read must be
            refused or equal.
        tokens: pieces that mean something in the format, to be put in.
    """

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    name: str = "input"
    checked: bool = False
    tokens: tuple[bytes, ...] = ()
