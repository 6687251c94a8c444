"""Data files that a user has: where they lie, and what is in them."""

import zlib
from pathlib import Path

from cnnjax.errors import UserError

_GZIP = b"\x1f\x8b"
_RATIO, _SLACK = 3, 64 << 20  # what is much smaller packed is made to fill the memory


def find(name: str, stem: str, manual_dir: Path) -> Path:
    """The file ``stem`` or ``stem``.gz in ``manual_dir`` or its subfolder ``name``.

    Of a name as ``train-images-idx3-ubyte`` that with a dot before its kind is the same, as some
    programs unpack it: ``train-images.idx3-ubyte``.

    Raises:
        UserError: there is none; names it and where it was looked for.
    """
    stems = dict.fromkeys((stem, stem.replace("-idx", ".idx")))
    for folder in (manual_dir, manual_dir / name):
        for one in stems:
            for end in ("", ".gz"):
                if (path := folder / (one + end)).is_file():
                    return path
    raise UserError(
        f"{name}: {stem} (or {stem}.gz) is neither in {manual_dir} nor in {manual_dir / name}"
    )


def unpacked(path: Path) -> bytes:
    """What is in a file, plain or gzipped, which its first bytes tell.

    Raises:
        UserError: a missing, unreadable or truncated file, gzip within gzip, or one that unpacks
            to more than 3 times its size and 64 MB.
    """
    try:
        stored = path.read_bytes()
        content = _gunzipped(path, stored) if stored.startswith(_GZIP) else stored
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read, it may be truncated ({error})") from None
    if content is not stored and content.startswith(_GZIP):
        raise UserError(f"{path}: is gzip within gzip; unpack it once")
    return content


def _gunzipped(path: Path, stored: bytes) -> bytes:
    """``gzip.decompress``, which has no bound, of no more than what is allowed."""
    most, found, left = _RATIO * len(stored) + _SLACK, bytearray(), stored
    while left:
        member = zlib.decompressobj(wbits=31)
        found += member.decompress(left, most + 1 - len(found))
        if len(found) > most:
            raise UserError(f"{path}: unpacks to more than {most:,} bytes from {len(stored):,}")
        if not member.eof:
            raise EOFError("the end of what is packed is missing")
        left = member.unused_data.lstrip(b"\0")  # padding, as gzip itself takes it
    return bytes(found)
