"""Word vectors: word2vec's binary and text formats and GloVe's text, plain or gzipped.

A file is read record by record, a binary one through a memory map, and only the rows of the words
that are asked for are kept: a file of three million words is never in memory as a whole.
"""

import contextlib
import dataclasses
import gzip
import io
import mmap
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from cnnjax.data.text import PADDING, UNKNOWN
from cnnjax.errors import UserError, reason, system_reason

_LONGEST_WORD = 2000  # bytes; what goes on without a space for longer is no word
_CHUNK = 1 << 20
_KEEP = 1 << 26  # bytes of a memory map that may stay in memory behind the reader
_PRINTED = frozenset(range(0x20, 0x7F)) | set(b"\t\r")
_RANGE = 0.25


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a vocabulary.

    Attributes:
        table: float32[V, E]; zero where the file does not have the word.
        found: bool[V]: whether it has it.
        source: the file, how many vectors it holds, and in which format.
    """

    table: np.ndarray
    found: np.ndarray
    source: str


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of a text has a vector: counts of different words (types) and of all (tokens)."""

    types: int
    types_found: int
    tokens: int
    tokens_found: int

    def __str__(self) -> str:
        return (
            f"{self.types_found:,} of {self.types:,} word types "
            f"({self.types_found / max(self.types, 1):.1%}), "
            f"{self.tokens_found:,} of {self.tokens:,} tokens "
            f"({self.tokens_found / max(self.tokens, 1):.1%})"
        )


def read(path: str | Path, words: Sequence[str]) -> Vectors:
    """The vectors of ``words``.

    Where a file has a word twice, its first vector counts.  The marks of padding and of unknown
    words have none.

    Args:
        path: of the file; its format is recognised by its content.
        words: the V words, in the order of their ids.

    Raises:
        UserError: a file that is missing, damaged or truncated (the message names the byte or the
            line), or holds none of the words.
    """
    try:
        path = Path(path).expanduser()
        wanted = {w.encode(): i for i, w in enumerate(words) if w not in (PADDING, UNKNOWN)}
        with contextlib.ExitStack() as opened:
            return _read(path, wanted, len(words), opened)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise UserError(f"{path}: is damaged ({reason(error)})") from None
        raise UserError(f"vectors: {system_reason(error, path)}") from None
    except RuntimeError as error:  # no such home
        raise UserError(f"vectors {path}: {reason(error)}") from None
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path}: is truncated or damaged ({reason(error)})") from None


def initial_table(
    vectors: Vectors | None,
    vocabulary: Sequence[str],
    size: int,
    seed: int,
    unknown: Literal["uniform", "variance"] = "uniform",
) -> np.ndarray:
    """The embedding table that training starts with.

    Args:
        vectors: of the words of ``vocabulary``; None draws all.
        vocabulary: the V words.
        size: E.
        seed: of the draw.
        unknown: words without a vector are uniform in ±0.25, or in the range that gives them the
            variance of the known ones (Kim 2014, section 3.2).

    Returns:
        float32[V, E]; row 0, the padding, is zero.

    Raises:
        UserError: vectors of another size.
    """
    if vectors is not None and vectors.table.shape[1] != size:
        raise UserError(
            f"{vectors.source}: its vectors have {vectors.table.shape[1]} dimensions; the "
            f"model's embeddings have {size}"
        )
    limit = range_of_unknown(vectors, unknown)
    random = np.random.RandomState(seed)
    table = random.uniform(-limit, limit, (len(vocabulary), size)).astype(np.float32)
    if vectors is not None:
        table[vectors.found] = vectors.table[vectors.found]
    table[0] = 0
    return table


def range_of_unknown(vectors: Vectors | None, unknown: Literal["uniform", "variance"]) -> float:
    """The range ± in which words without a vector are drawn; arguments as in
    :func:`initial_table`.
    """
    if vectors is None or unknown == "uniform":
        return _RANGE
    return float(np.sqrt(3 * vectors.table[vectors.found].var(dtype=np.float64)))


def coverage(vectors: Vectors, splits: Mapping[str, Mapping[str, np.ndarray]]) -> Coverage:
    """How much of a data set's text has a vector.

    Args:
        vectors: of the data set's vocabulary.
        splits: the data set's, with "inputs" int32[N, T].
    """
    counts: Any = sum(
        np.bincount(split["inputs"].ravel(), minlength=len(vectors.found))
        for split in splits.values()
    )
    counts[0] = 0
    return Coverage(
        types=int(np.count_nonzero(counts)),
        types_found=int(np.count_nonzero(counts[vectors.found])),
        tokens=int(counts.sum()),
        tokens_found=int(counts[vectors.found].sum()),
    )


def _read(
    path: Path, wanted: Mapping[bytes, int], size: int, opened: contextlib.ExitStack
) -> Vectors:
    plain = opened.enter_context(open(path, "rb"))
    zipped = plain.read(2) == b"\x1f\x8b"
    plain.seek(0)
    stream = opened.enter_context(gzip.open(plain)) if zipped else plain
    first = stream.readline(_CHUNK)
    if not first.strip():
        raise UserError(f"{path}: is empty or starts with an empty line; it holds no vectors")
    header = _header(first)
    head = stream.read(4 * header[1] + _LONGEST_WORD) if header else b""
    stream.seek(0)
    if header and _is_binary(head, header[1]):
        if zipped:
            content, more = stream.read(_CHUNK), stream.read
        else:
            content, more = mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ), lambda size: b""
            opened.enter_context(content)
        table, found = _empty(size, header[1])
        _from_binary(path, content, more, len(first), header, wanted, table, found)
        count, kind = header[0], "word2vec, binary"
    else:
        dimensions = header[1] if header else len(first.split()) - 1
        if dimensions < 1:
            raise UserError(f"{path}: line 1 is neither 'COUNT SIZE' nor a word and its vector")
        table, found = _empty(size, dimensions)
        count = _from_text(path, stream, header, wanted, table, found)
        kind = "word2vec, text" if header else "GloVe, text"
    if not found.any():
        raise UserError(f"{path}: holds none of the {len(wanted):,} words that are asked for")
    return Vectors(table, found, f"{path} ({count:,} vectors; {kind}{', gzip' * zipped})")


def _empty(words: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((words, dimensions), np.float32), np.zeros(words, bool)


def _header(line: bytes) -> tuple[int, int] | None:
    """Count and size, from the first line of word2vec's formats."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    count, size = map(int, fields)
    return (count, size) if size else None


def _is_binary(head: bytes, size: int) -> bool:
    """Whether what follows the first word is something else than printed numbers."""
    _, _, vector = head.lstrip(b"\n").partition(b" ")
    start = vector[: 4 * size].partition(b"\n")[0]
    return not start or not set(start) <= _PRINTED


def _from_binary(
    path: Path,
    content: bytes | mmap.mmap,
    more: Callable[[int], bytes],
    start: int,
    header: tuple[int, int],
    wanted: Mapping[bytes, int],
    table: np.ndarray,
    found: np.ndarray,
) -> None:
    """Fill ``table`` and ``found`` from records of a word, a space, and E little-endian float32.

    ``content`` is the file, or its beginning: then ``more(bytes)`` goes on.
    """
    count, size = header
    at, before, released = start, 0, 0  # ``before``: bytes of the file in front of ``content``
    for record in range(count):
        if len(content) - at < 4 * size + _LONGEST_WORD and (chunk := more(_CHUNK + 4 * size)):
            content, before, at = content[at:] + chunk, before + at, 0
        space = content.find(b" ", at, at + _LONGEST_WORD)
        end = space + 1 + 4 * size
        if space < 0 or end > len(content):
            raise UserError(
                f"{path}: is truncated or damaged at byte {before + at:,}, in vector "
                f"{record + 1:,} of the {count:,} that its header announces"
            )
        row = wanted.get(content[at:space].lstrip(b"\n"))
        if row is not None and not found[row]:
            vector = np.frombuffer(content[space + 1 : end], "<f4")
            if not np.isfinite(vector).all():
                raise UserError(
                    f"{path}: is damaged after byte {before + space:,}: the vector of "
                    f"{content[at:space].strip().decode(errors='replace')!r} is not finite"
                )
            table[row], found[row] = vector, True
        at = end
        if isinstance(content, mmap.mmap) and at - released > _KEEP:
            released = _release(content, released, at)
    rest = content[at : at + _LONGEST_WORD] + more(1)
    if rest.strip(b"\n"):
        raise UserError(
            f"{path}: goes on after byte {before + at:,}, behind the {count:,} vectors of "
            f"{size} dimensions that its header announces"
        )


def _release(content: mmap.mmap, start: int, end: int) -> int:
    """Let the system forget the pages that were read; return where it stopped."""
    end -= end % mmap.PAGESIZE
    if hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED, start, end - start)
    return end


def _from_text(
    path: Path,
    stream: BinaryIO | io.BufferedIOBase,
    header: tuple[int, int] | None,
    wanted: Mapping[bytes, int],
    table: np.ndarray,
    found: np.ndarray,
) -> int:
    """Fill ``table`` and ``found`` from lines of a word and E numbers; return how many they are."""
    size, number, count = table.shape[1], 0, 0
    for number, line in enumerate(stream, 1):
        if number == 1 and header:
            continue
        count += 1
        word, _, rest = line.strip().partition(b" ")
        if (numbers := rest.count(b" ") + 1 if rest else 0) != size:
            if numbers > size and _vector(rest) is None:
                continue  # GloVe has words with spaces inside; no cleaning leaves one
            raise UserError(
                f"{path}: line {number:,} has {numbers} numbers after its word instead of {size}"
            )
        row = wanted.get(word)
        if row is not None and not found[row]:
            vector = _vector(rest)
            if vector is None or not np.isfinite(vector).all():
                raise UserError(
                    f"{path}: line {number:,} has something else than {size} finite numbers after "
                    f"{word.decode(errors='replace')!r}"
                )
            table[row], found[row] = vector, True
    if header and count != header[0]:
        raise UserError(
            f"{path}: ends after line {number:,} with {count:,} vectors; its header announces "
            f"{header[0]:,}"
        )
    return count


def _vector(text: bytes) -> np.ndarray | None:
    """The numbers of ``text``; None if it has something else."""
    try:
        return np.array(text.split(), np.float32)
    except ValueError:
        return None
