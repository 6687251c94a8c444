"""Files of sentences, in the forms in which people have them; every defect named by its line."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.errors import UserError

Example = tuple[str, int]
"""A sentence and its label."""

_NODE = re.compile(r"\((\d)\s|([^\s()]+)|(\))|(\S)")


def lines(path: Path, encoding: str = "utf-8-sig") -> list[str]:
    """The lines of a text file, without their ends.

    Only a line feed ends a line: latin-1 files hold characters that Unicode takes for line ends.

    Raises:
        UserError: a line that is not in ``encoding``.
        OSError: the file cannot be read.
    """
    text = decode(path, path.read_bytes(), encoding)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def decode(path: Path | str, content: bytes, encoding: str) -> str:
    """``content``, which is that of ``path``, as text.

    Raises:
        UserError: naming the first line that is not in ``encoding``.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: line {line:,} is not {encoding.removesuffix('-sig').upper()} (byte "
            f"0x{content[error.start]:02x}); convert the file, for instance with iconv"
        ) from None


def class_file(path: Path, label: int, encoding: str = "utf-8-sig") -> list[Example]:
    """One sentence a line, all of one class; blank lines are no sentences.

    Raises:
        UserError: as :func:`lines`; also for a file without a sentence.
    """
    examples = [(line.strip(), label) for line in lines(path, encoding) if line.strip()]
    if not examples:
        raise UserError(f"{path}: holds no sentence; one a line is expected")
    return examples


def labelled_lines(
    path: Path, labels: Mapping[str, int], encoding: str = "utf-8-sig"
) -> list[Example]:
    """``label sentence`` a line, parted by the first space (or tab).

    Args:
        path: the file.
        labels: what stands in the file -> label.
        encoding: of the file.

    Raises:
        UserError: as :func:`lines`; also for a line that starts with no such label.
    """
    examples = []
    for number, line in enumerate(lines(path, encoding), 1):
        mark, *sentence = line.split(None, 1)[:2] or [""]
        if mark not in labels:
            raise UserError(
                f"{path}: line {number:,} starts with {mark!r}; it must start with one of "
                f"{', '.join(labels)} and go on with a sentence"
            )
        examples.append(("".join(sentence).strip(), labels[mark]))
    return examples


def trees(path: Path, phrases: bool = False, encoding: str = "utf-8-sig") -> list[Example]:
    """Sentences of the Stanford Sentiment Treebank: one labelled tree a line.

    Args:
        path: the file, of lines as ``(3 (2 good) (2 film))``.
        phrases: whether every subtree is an example too, each distinct one once (after the whole
            sentence).
        encoding: of the file.

    Returns:
        Words joined by spaces, and labels 0 .. 4.

    Raises:
        UserError: as :func:`lines`; also for a line that is no tree.
    """
    examples: dict[Example, None] = {}
    sentences = []
    for number, line in enumerate(lines(path, encoding), 1):
        if not line.strip():
            continue
        nodes = _nodes(line)
        if nodes is None:
            raise UserError(
                f"{path}: line {number:,} is no tree; it must be like (3 (2 good) (2 film))"
            )
        sentences.append(nodes[-1])
        examples |= dict.fromkeys(reversed(nodes))
    return list(examples) if phrases else sentences


def _nodes(line: str) -> list[Example] | None:
    """Every subtree of a line, the whole tree last; None if it is no tree."""
    words: list[str] = []
    opened: list[tuple[int, int]] = []  # label, and the number of words before it
    closed: list[Example] = []
    for match in _NODE.finditer(line.strip()):
        label, word, end, other = match.groups()
        if other or (closed and not opened):
            return None
        if label:
            opened.append((int(label), len(words)))
        elif not opened:
            return None
        elif word:
            words.append(word)
        elif end:
            label, start = opened.pop()
            if label > 4 or len(words) == start:
                return None
            closed.append((" ".join(words[start:]), label))
    return None if opened or not closed else closed


def table(path: Path, text: str, label: str) -> list[tuple[str, str]]:
    """Two named columns of a table with a header line: tabs in a .tsv, commas in a .csv file.

    Quotation marks are characters like others in a .tsv file.

    Args:
        path: the file.
        text, label: names of the columns.

    Returns:
        For every row its text and what stands in the label column.

    Raises:
        UserError: another ending, a line that is not UTF-8, a column that does not exist, a row
            with more or fewer fields than the header, or without a label.
    """
    styles = {
        ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
        ".csv": {"delimiter": ",", "strict": True},
    }
    if path.suffix.lower() not in styles:
        raise UserError(f"{path}: a table's file ends in .tsv (tabs) or .csv (commas)")
    content = decode(path, path.read_bytes(), "utf-8-sig")
    rows = _rows(path, csv.reader(io.StringIO(content, ""), **styles[path.suffix.lower()]))
    _, header = next(rows, (1, []))
    for name in (text, label):
        if name not in header:
            raise UserError(
                f"{path}: has no column {name!r}; there are {', '.join(header) or 'none'}"
            )
    found = []
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{path}: line {line:,} has {len(row)} fields; its header has {len(header)}"
            )
        one = dict(zip(header, row, strict=True))
        if not one[label].strip():
            raise UserError(f"{path}: line {line:,} has no {label!r}")
        found.append((one[text], one[label].strip()))
    return found


def _rows(path: Path, reader: Any) -> Iterator[tuple[int, Sequence[str]]]:
    """The rows that are not blank, each with the number of its last line."""
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num:,} cannot be read ({error})") from None
