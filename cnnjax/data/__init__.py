"""Named data sets -> numpy arrays with a provenance.  Knows no model.

``load("digits")`` (``digits:56789``: some of its classes) and ``load("docstrings")`` need nothing;
``mnist`` and ``fashion_mnist`` need a network once or the four IDX files, ``usps`` its two, the
sentences of Kim 2014 theirs; ``tfds:NAME`` reads what TensorFlow Datasets has prepared;
``folder:PATH`` are images of one's own, ``text:FOLDER`` and ``table:FILE:TEXT:LABEL`` sentences.
"""

import importlib
from pathlib import Path

from cnnjax.data.dataset import DataSet, Spec
from cnnjax.data.folds import Division, Rows, cross_validation, divide
from cnnjax.data.images import ImageFiles, random_crops
from cnnjax.errors import ArgumentError, UserError, system_reason
from cnnjax.files.folders import data_folder, expanded

__all__ = [
    "DataSet",
    "Division",
    "ImageFiles",
    "Rows",
    "Spec",
    "cross_validation",
    "data_folder",
    "divide",
    "load",
    "names",
    "random_crops",
]

# Data set -> module; imported when asked for, so that no data set's library is paid for by others.
_MODULES = {
    "digits": "cnnjax.data.digits",
    "mnist": "cnnjax.data.idx_images",
    "fashion_mnist": "cnnjax.data.idx_images",
    "usps": "cnnjax.data.usps",
    "docstrings": "cnnjax.data.docstrings",
    **dict.fromkeys(
        (
            *("mr", "sst1", "sst1_phrases", "sst2", "sst2_phrases"),
            *("subj", "trec", "cr", "mpqa"),
        ),
        "cnnjax.data.sentences",
    ),
}
# A user's own, or another library's: how it is written after the colon, and its module.
_PREFIXES = {
    "digits": ("CLASSES", "cnnjax.data.digits"),
    "tfds": ("NAME", "cnnjax.data.tfds_images"),
    "folder": ("PATH[:SIZE]", "cnnjax.data.images.folders"),
    "text": ("FOLDER", "cnnjax.data.own_sentences"),
    "table": ("FILE:TEXT_COLUMN:LABEL_COLUMN", "cnnjax.data.own_sentences"),
}


def names() -> tuple[str, ...]:
    """What :func:`load` accepts."""
    return (*_MODULES, *(f"{prefix}:{form}" for prefix, (form, _) in _PREFIXES.items()))


def load(
    name: str, data_dir: str | Path | None = None, manual_dir: str | Path | None = None
) -> DataSet:
    """The data set called ``name``.

    Args:
        name: one of :func:`names`.
        data_dir: where prepared data sets lie; by default TFDS's own directory,
            ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
        manual_dir: where files lie that the user already has.

    Returns:
        The data set; its provenance has the "sha256" of all its arrays: inputs and labels of
        train, validation and test, in this order.

    Raises:
        UserError: an unknown name, data that is missing, defective or unsuitable, an empty split,
            or a file or folder that cannot be read or written.
    """
    prefix, colon, _ = name.partition(":")
    if colon and prefix in _PREFIXES:
        _, module = _PREFIXES[prefix]
    elif name in _MODULES:
        module = _MODULES[name]
    else:
        raise UserError(f"there is no data set {name!r}; valid: {', '.join(names())}")
    data_dir = expanded("data_dir", data_dir) if data_dir else None
    manual_dir = expanded("manual_dir", manual_dir) if manual_dir else None
    try:
        if data_dir and data_dir.exists() and not data_dir.is_dir():
            raise ArgumentError("data_dir", data_dir, "is a file; name a folder")
        if manual_dir and not manual_dir.is_dir():
            raise ArgumentError("manual_dir", manual_dir, "there is no such folder")
        dataset = importlib.import_module(module).load(name, data_dir, manual_dir)
    except OSError as error:
        raise UserError(f"data set {name}: {system_reason(error, data_dir)}") from None
    _require_examples(dataset)
    return dataset.with_checksum()


def _require_examples(dataset: DataSet) -> None:
    sizes = {split: len(examples["labels"]) for split, examples in dataset.splits.items()}
    for split, size in sizes.items():
        if not size:
            found = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
            raise UserError(
                f"data set {dataset.name}: its {split} split is empty; of its "
                f"{sum(sizes.values()):,} examples ({found}) every split needs at least one"
            )
