"""Image files are read once, whole, before any is trained on; that they were is remembered."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.cache import cached
from cnnjax.data.images.decoding import decoded, opened
from cnnjax.data.images.image_files import CHANNELS, threads
from cnnjax.errors import UserError
from cnnjax.files.folders import data_folder

_SHOWN = 3  # files in a message


def inspected(name: str, paths: Sequence[Path], data_dir: Path | None) -> np.ndarray:
    """The SHA-256 of every file, each of which can be decoded: uint8[N, 32].

    They are kept in the folder ``images`` of the data directory and read from there as long as
    paths, sizes and times of change of all files are the same.

    Raises:
        UserError: files that are no images, or damaged; names the first few.
        OSError: a file that cannot be read.
    """
    listing = hashlib.sha256()
    for path in paths:
        status = path.stat()
        listing.update(f"{path.absolute()}\0{status.st_size} {status.st_mtime_ns}\0".encode())
    known = data_folder(data_dir) / "images" / f"{listing.hexdigest()[:24]}.npz"

    def inspect() -> dict[str, np.ndarray]:
        print(f"{name}: checking {len(paths):,} images (once)", file=sys.stderr)
        found = list(threads().map(_inspect, paths))
        defects = [defect for defect in found if isinstance(defect, UserError)]
        if defects:
            more = f" and {len(defects) - _SHOWN:,} more" if len(defects) > _SHOWN else ""
            listed = "; ".join(map(str, defects[:_SHOWN]))
            raise UserError(f"{name}: {listed}{more}; repair or remove what is damaged")
        digests = b"".join(digest for digest in found if isinstance(digest, bytes))
        return {"sha256": np.frombuffer(digests, np.uint8).reshape(len(paths), -1)}

    return cached(known, inspect)["sha256"]


def _inspect(path: Path) -> bytes | UserError:
    content = path.read_bytes()
    try:
        with opened(path, content) as image:
            image.draft(None, (1, 1))  # all bytes are read, but few pixels are computed
            decoded(image, CHANNELS)
    except UserError as defect:
        return defect
    return hashlib.sha256(content).digest()
