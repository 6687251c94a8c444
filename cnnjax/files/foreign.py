"""Files that others made: where they lie, what is in them, and what they are instead."""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from cnnjax.errors import UserError, reason

GZIP, ZIP, HDF5, NPY = b"\x1f\x8b", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"
"""The first bytes of files of these formats."""

_STARTS = (
    (GZIP, "a gzip file; unpack it"),
    ((ZIP, b"PK\x05\x06"), "a ZIP archive; unpack it and name the file in it"),
    (HDF5, "an HDF5 file"),
    (NPY, "an array of NumPy's (.npy)"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with git lfs pull"),
    (b"\x80", "a pickle"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "a bzip2 file; unpack it"),
    (b"\xfd7zXZ", "an xz file; unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
    ((b"\xff\xd8\xff", b"\x89PNG", b"GIF8"), "a picture"),
)
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")

_RATIO, _SLACK = 3, 64 << 20


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
            to more than its :func:`allowance`.
    """
    with parsing(path, "cannot be read, it may be truncated"):
        try:
            stored = path.read_bytes()
        except IsADirectoryError:
            raise UserError(f"{path}: cannot be read, it is a folder") from None
        if not stored.startswith(GZIP):
            return stored
        content = _gunzipped(path, stored)
        if content.startswith(GZIP):
            raise UserError(f"{path}: is gzip within gzip; unpack it once")
        return content


def _gunzipped(path: Path, stored: bytes) -> bytes:
    """``gzip.decompress`` of no more than what is allowed."""
    most, found, left = allowance(len(stored)), bytearray(), stored
    while left:
        member = zlib.decompressobj(wbits=31)
        found += member.decompress(left, most + 1 - len(found))
        if len(found) > most:
            raise UserError(f"{path}: unpacks to more than {most:,} bytes from {len(stored):,}")
        if not member.eof:
            raise EOFError("the end of what is packed is missing")
        left = member.unused_data.lstrip(b"\0")  # padding, as gzip itself takes it
    return bytes(found)


def allowance(stored: int) -> int:
    """How many bytes a file of ``stored`` bytes may unpack to, where nothing else tells.

    What is much smaller packed is made to fill the memory.
    """
    return _RATIO * stored + _SLACK


def what_it_is(start: bytes) -> str | None:
    """In words what a file with these first bytes is, if it is something well known.

    >>> what_it_is(b"<!DOCTYPE html><html>")
    'a web page; download the file itself'
    """
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGES):
        return "a web page; download the file itself"
    if b"ustar" in start[257:265]:
        return "a tar archive; unpack it"
    return next((words for marks, words in _STARTS if start.startswith(marks)), None)


@contextlib.contextmanager
def parsing(place: object, otherwise: str = "is truncated or damaged") -> Iterator[None]:
    """Inside, what others made is parsed: whatever that raises becomes one line about ``place``.

    Bytes from elsewhere make decoders raise anything.  What the system refuses stays an OSError.

    Raises:
        UserError: as it was raised inside, or anything else as ``place: otherwise (reason)``.
        OSError: of the system, with its number.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{place}: there is no such file") from None
    except MemoryError:
        raise UserError(f"{place}: asks for more memory than there is") from None
    except RecursionError:
        raise UserError(f"{place}: {otherwise} (it is nested too deeply)") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{place}: {otherwise} ({reason(error)})") from None
