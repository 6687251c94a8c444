"""Preparing a TFDS builder without its noise, and reading it into memory."""

import contextlib
import io
import socket
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from cnnjax.errors import UserError

_CONNECT_SECONDS = 10


def prepare(builder: tfds.core.DatasetBuilder, manual_dir: Path | None = None) -> None:
    """``builder.download_and_prepare()``, once, with one line on standard error.

    TFDS writes into a temporary folder and renames it at the end: an interruption leaves
    nothing half-prepared.
    """
    if builder.is_prepared():
        return
    print(f"preparing {builder.info.full_name} in {builder.data_path} (once)", file=sys.stderr)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
            )
    except (DownloadError, NonMatchingChecksumError) as error:
        raise UserError(
            f"{builder.info.full_name}: a download failed: {' '.join(str(error).split())}"
        ) from None


def require_reachable(address: str, otherwise: str) -> None:
    """Raise UserError, ending in ``otherwise``, if the host of ``address`` cannot be reached.

    Asked before a download is started, because TFDS retries for several minutes.
    """
    parts = urllib.parse.urlsplit(address)
    port = parts.port or {"http": 80, "https": 443, "ftp": 21}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(f"cannot reach {parts.hostname} ({error}); {otherwise}") from None


def read(
    builder: tfds.core.DatasetBuilder, split: str, image: str, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """All images uint8[N, H, W, C] and labels int32[N] of a prepared split, in stored order.

    Args:
        builder: a prepared builder.
        split: its split's name, or any slice TFDS understands.
        image, label: the names of the two features.
    """
    examples = builder.as_data_source(split=split)
    records = examples.__getitems__(range(len(examples)))
    images = np.stack([record[image] for record in records])
    return images, np.array([record[label] for record in records], np.int32)
