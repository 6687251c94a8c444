"""NumPy's files, read to their last byte: what a header or an archive claims is checked first.

``numpy.load`` reads of an archive's member what the array's header announces, and stops before the
member's checksum where that is less than there is.
"""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from cnnjax.errors import UserError
from cnnjax.files.foreign import allowance, parsing

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_ENCRYPTED = 0x1


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive (``.npz``), in its order, every member compared with its checksum.

    Raises:
        UserError: a missing, truncated or damaged archive, a member that is no plain array or is
            there twice, or an archive that unpacks to much more than its size.
        OSError: a file that cannot be read.
    """
    with parsing(path), zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): from_bytes(f"{path}, {name}", content)
            for name, content in members(path, archive).items()
        }


def read_npy(path: Path) -> np.ndarray:
    """The array in a file (``.npy``).

    Raises:
        UserError: a missing, truncated or damaged file, or one of objects.
        OSError: a file that cannot be read.
    """
    with parsing(path):
        return from_bytes(path, path.read_bytes())


def from_bytes(place: object, content: bytes) -> np.ndarray:
    """The array that ``content``, a whole ``.npy`` file, holds; it cannot be written to.

    Args:
        place: what the content is of, for messages.
        content: of the file.

    Raises:
        UserError: it is not exactly one plain array.
    """
    with parsing(place, "is no plain array, or is truncated or damaged"):
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise UserError(
                f"{place}: has version {version} of NumPy's format; 1 and 2 can be read"
            )
        shape, by_columns, dtype = _HEADERS[version](stream)
        if dtype.hasobject:
            raise UserError(f"{place}: holds Python objects; only plain arrays are read")
        start, size = stream.tell(), math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or len(content) - start != size:
            raise UserError(
                f"{place}: its header announces {dtype} of shape {shape}, that is {size:,} bytes; "
                f"it has {len(content) - start:,}"
            )
        flat = np.frombuffer(content, dtype, math.prod(shape), start)
        return flat.reshape(shape, order="F" if by_columns else "C")


def members(place: object, archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The content of every file in a ZIP archive, each read to its end and its checksum.

    Args:
        place: what the archive is, for messages.
        archive: open for reading.

    Raises:
        UserError: a name that is there twice, an encrypted member, or an archive that unpacks to
            much more than its size.
        Exception: whatever damaged bytes make ``zipfile`` raise.
    """
    infos = [info for info in archive.infolist() if not info.is_dir()]
    names = [info.filename for info in infos]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{place}: has {twice!r} twice")
    stored = sum(info.compress_size for info in infos)
    claimed, most = sum(info.file_size for info in infos), allowance(_size(archive))
    if claimed > most:
        raise UserError(
            f"{place}: unpacks to {claimed:,} bytes from {stored:,}; at most {most:,} are taken "
            f"from such a file; save it without compression"
        )
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise UserError(f"{place}: is encrypted; unpack it first")
    found = {}
    for info in infos:
        content = archive.read(info)
        if len(content) != info.file_size:
            raise UserError(f"{place}: {info.filename!r} is truncated")
        found[info.filename] = content
    return found


def _size(archive: zipfile.ZipFile) -> int:
    file = archive.fp
    assert file is not None  # it is open
    return file.seek(0, io.SEEK_END)
