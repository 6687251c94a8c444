"""Folders that the user names."""

import os
from pathlib import Path

from cnnjax.errors import ArgumentError


def expanded(argument: str, folder: str | Path) -> Path:
    """``folder``, the value of ``argument``, with ``~`` replaced by a home folder.

    Raises:
        UserError: there is no such home.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise ArgumentError(argument, folder, "there is no such home folder") from None


def data_folder(data_dir: str | Path | None) -> Path:
    """Where prepared data lies: ``data_dir``, or else TFDS's own directory.

    Raises:
        UserError: there is no such home.
    """
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return expanded("data_dir", folder)
