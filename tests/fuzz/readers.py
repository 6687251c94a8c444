"""All readers, by name."""

import gzip

import numpy as np

from cnnjax.data import idx, zip_text
from tests.data_files import idx_bytes
from tests.fuzz.reader import Reader


def _idx() -> list[bytes]:
    content = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    in_two = gzip.compress(content[:9], mtime=0) + gzip.compress(content[9:], mtime=0)
    return [content, gzip.compress(content, mtime=0), in_two]


def _zip_codes() -> list[bytes]:
    grey = np.random.RandomState(0).randint(-1000, 1001, (3, 256)) / 1000
    lines = [f"{row:.4f} " + " ".join(f"{x:.4f}" for x in line) for row, line in enumerate(grey)]
    content = "\n".join(lines).encode()
    return [content, gzip.compress(content, mtime=0)]


ALL = {
    "idx": Reader(_idx, lambda path: idx.read(path, 3), tokens=(b"\x1f\x8b\x08",)),
    "zip_codes": Reader(_zip_codes, zip_text.read, tokens=(b" ", b"\n", b"1e999", b"nan", b"-")),
}
