"""Named data sets -> numpy arrays with a provenance.  Knows no model.

``load("digits")`` needs nothing; ``mnist`` and ``fashion_mnist`` need a network once or the
four IDX files; ``tfds:NAME`` reads what TensorFlow Datasets has prepared.
"""

import importlib
from pathlib import Path

from cnnjax.data.dataset import DataSet, Spec
from cnnjax.errors import UserError

__all__ = ["DataSet", "Spec", "load", "names"]

# Data set -> module; imported when asked for, so that no data set's library is paid for by others.
_MODULES = {
    "digits": "cnnjax.data.digits",
    "mnist": "cnnjax.data.idx_images",
    "fashion_mnist": "cnnjax.data.idx_images",
}


def names() -> tuple[str, ...]:
    """What :func:`load` accepts."""
    return (*_MODULES, "tfds:NAME")


def load(
    name: str, data_dir: str | Path | None = None, manual_dir: str | Path | None = None
) -> DataSet:
    """The data set called ``name``.

    Args:
        name: one of :func:`names`.
        data_dir: where prepared data sets lie; by default TFDS's own directory,
            ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
        manual_dir: where files lie that the user already has.

    Raises:
        UserError: an unknown name, or data that is missing, defective or unsuitable.
    """
    data_dir = Path(data_dir).expanduser() if data_dir else None
    manual_dir = Path(manual_dir).expanduser() if manual_dir else None
    if data_dir and data_dir.exists() and not data_dir.is_dir():
        raise UserError(f"--data_dir={data_dir}: is a file; name a folder")
    if manual_dir and not manual_dir.is_dir():
        raise UserError(f"--manual_dir={manual_dir}: there is no such folder")
    if name.startswith("tfds:"):
        module = "cnnjax.data.tfds_images"
    elif name in _MODULES:
        module = _MODULES[name]
    else:
        raise UserError(f"there is no data set {name!r}; valid: {', '.join(names())}")
    return importlib.import_module(module).load(name, data_dir, manual_dir)
