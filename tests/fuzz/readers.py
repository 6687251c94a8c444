"""All readers, by name."""

from tests.fuzz.reader import Reader

ALL: dict[str, Reader] = {}
