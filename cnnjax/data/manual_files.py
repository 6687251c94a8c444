"""Data files that a user has: where they lie, and what is in them."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

from cnnjax.errors import UserError


def find(name: str, stem: str, manual_dir: Path) -> Path:
    """The file ``stem`` or ``stem``.gz in ``manual_dir`` or its subfolder ``name``.

    Raises:
        UserError: there is none; names it and where it was looked for.
    """
    for folder in (manual_dir, manual_dir / name):
        for end in ("", ".gz"):
            if (path := folder / (stem + end)).is_file():
                return path
    raise UserError(
        f"{name}: {stem} (or {stem}.gz) is neither in {manual_dir} nor in {manual_dir / name}"
    )


def content(path: Path) -> bytes:
    """What is in a file, plain or gzipped, which its first bytes tell.

    Raises:
        UserError: a missing, unreadable or truncated file.
    """
    try:
        stored = path.read_bytes()
        return gzip.decompress(stored) if stored[:2] == b"\x1f\x8b" else stored
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read, it may be truncated ({error})") from None


def digest(digests: Iterable[str]) -> str:
    """Twelve letters for files of these SHA-256, which tell their preparation from others'."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def sha256(path: Path) -> str:
    """The SHA-256 of a file as it is stored."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
