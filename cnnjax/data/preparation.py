"""Preparing a TFDS builder without its noise, and reading it into memory."""

import contextlib
import io
import logging
import socket
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from cnnjax.errors import UserError, reason

_CONNECT_SECONDS = 10


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what TFDS prints and warns of; afterwards logging is as it was."""
    ours, everyones, nowhere = logging.getLogger("absl"), logging.getLogger(), logging.NullHandler()
    level = ours.level
    ours.setLevel(logging.ERROR)
    everyones.addHandler(nowhere)  # else absl, finding no handler, configures logging for good
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        everyones.removeHandler(nowhere)
        ours.setLevel(level)


def prepare(builder: tfds.core.DatasetBuilder, manual_dir: Path | None = None) -> None:
    """``builder.download_and_prepare()``, once, with one line on standard error.

    TFDS writes into a temporary folder and renames it at the end: an interruption leaves
    nothing half-prepared.

    Raises:
        UserError: a download that failed, or files that cannot be written.
    """
    if builder.is_prepared():
        return
    print(f"preparing {builder.info.full_name} in {builder.data_path} (once)", file=sys.stderr)
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
        )
    except (DownloadError, NonMatchingChecksumError) as error:
        raise UserError(f"{builder.info.full_name}: a download failed: {reason(error)}") from None
    except RuntimeError as error:  # array_record's for a full disk
        raise UserError(
            f"{builder.info.full_name}: cannot be prepared in {builder.data_path}: {reason(error)}"
        ) from error


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


def records(
    builder: tfds.core.DatasetBuilder, split: str, label: str
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """All examples of a prepared split, feature -> value, and their labels int32[N], as stored.

    Args:
        builder: a prepared builder.
        split: its split's name, or any slice TFDS understands.
        label: the name of the label feature.

    Raises:
        UserError: prepared files that are missing, damaged or in a format of TensorFlow's.
    """
    try:
        # What decorates it hides its parameters.
        examples = builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]
        found = list(examples.__getitems__(range(len(examples))))
        return found, np.array([record[label] for record in found], np.int32)
    except NotImplementedError:
        form = builder.info.file_format
        raise UserError(
            f"{builder.data_path}: is prepared as {form and form.value}, which needs "
            f"TensorFlow; prepare it in another data_dir with file_format='array_record'"
        ) from None
    except Exception as error:  # damaged files make the decoders raise whatever they happen to
        raise UserError(
            f"{builder.data_path}: its {split} split cannot be read ({reason(error)}); if it is "
            f"damaged, delete this folder to have it prepared again"
        ) from error


def read(
    builder: tfds.core.DatasetBuilder, split: str, image: str, label: str
) -> tuple[np.ndarray, np.ndarray]:
    """All images [N, H, W, C] and labels int32[N] of a prepared split, in stored order.

    Args:
        builder, split, label: as in :func:`records`.
        image: the name of the image feature.

    Raises:
        UserError: as :func:`records`.
        ValueError: images of unequal sizes.
    """
    found, labels = records(builder, split, label)
    return np.stack([record[image] for record in found]), labels
