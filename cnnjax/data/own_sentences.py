"""``text:FOLDER`` and ``table:FILE:TEXT:LABEL``: sentences of the user's own."""

from pathlib import Path

import numpy as np

from cnnjax.data.dataset import DataSet
from cnnjax.data.text import readers, text_dataset, three_splits
from cnnjax.errors import UserError
from cnnjax.files.folders import expanded


def load(name: str, data_dir: Path | None, manual_dir: Path | None) -> DataSet:
    """Sentences from a folder with one text file a class, or from two columns of a table.

    ``text:FOLDER``: one sentence a line, UTF-8; a class is called as its file, without ``.txt``.
    ``table:FILE:TEXT:LABEL``: a .tsv or .csv file whose header names the columns TEXT and LABEL.
    The splits are drawn (:func:`~cnnjax.data.text.three_splits`); words are cut off by the rule
    "unicode".  The two directories are not used.

    Raises:
        UserError: files that are missing, empty or defective, a column that does not exist, one
            class only.
    """
    kind, _, place = name.partition(":")
    examples, classes = (_folder if kind == "text" else _table)(name, place)
    texts, labels = [text for text, _ in examples], np.array([label for _, label in examples])
    splits, how = three_splits({"undivided": (texts, labels)})
    return text_dataset(name, splits, classes, "unicode", {"source": place, "split": how})


def _folder(name: str, place: str) -> tuple[list[readers.Example], list[str]]:
    folder = expanded("config.dataset", place)
    if not place or not folder.is_dir():
        raise UserError(f"{name}: there is no folder {place!r}; written text:FOLDER")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise UserError(f"{name}: the folder holds no file; one text file a class is expected")
    examples = [
        example for label, path in enumerate(paths) for example in readers.class_file(path, label)
    ]
    return examples, [path.name.removesuffix(".txt") for path in paths]


def _table(name: str, place: str) -> tuple[list[readers.Example], list[str]]:
    path, *columns = place.rsplit(":", 2)
    if len(columns) != 2:
        raise UserError(f"{name}: written table:FILE:TEXT_COLUMN:LABEL_COLUMN")
    rows = readers.table(expanded("config.dataset", path), *columns)
    if not rows:
        raise UserError(f"{path}: has no row below its header")
    classes = sorted({label for _, label in rows})
    return [(text, classes.index(label)) for text, label in rows], classes
