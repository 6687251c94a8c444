"""Arrays that take long to compute: computed once, kept in a file."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def cached(path: Path | None, compute: Callable[[], Mapping[str, np.ndarray]]) -> Arrays:
    """The arrays in the file at ``path``; if it is missing or damaged, ``compute()``, kept there.

    The path must tell all that the arrays depend on.  The file (``.npz``, with a checksum of every
    array) is written whole or not at all; one that cannot be written is no error.

    Args:
        path: by default nothing is kept.
        compute: gives the arrays by name.
    """
    found = _read(path) if path else None
    if found is None:
        found = {name: np.asarray(array) for name, array in compute().items()}
        if path:
            _write(path, found)
    return found


def _read(path: Path) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception:  # damaged bytes can raise anything
        return None


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # processes may do it at once
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
