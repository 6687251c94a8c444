"""The IDX format: round trips, and every defect named."""

import gzip

import numpy as np
import pytest

from cnnjax.data import idx
from tests.data_files import (
    idx_bytes,
    refused,
    write_idx,
)


@pytest.mark.parametrize("name", ["plain", "packed.gz"])
@pytest.mark.parametrize("shape", [(6,), (2, 3, 4), (0, 28, 28)])
def test_an_idx_file_is_read_as_it_was_written(tmp_path, name, shape):
    array = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    write_idx(tmp_path / name, array)
    found = idx.read(tmp_path / name, len(shape))
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


IMAGES = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file"]),
        (b"", ["empty", "0x00000803"]),
        (gzip.compress(b"", mtime=0), ["empty", "0x00000803"]),
        (gzip.compress(IMAGES, mtime=0)[:-10], ["cannot be read", "truncated"]),
        (gzip.compress(IMAGES, mtime=0)[:6], ["cannot be read", "truncated"]),
        (gzip.compress(IMAGES, mtime=0) + b"left over", ["cannot be read"]),
        (IMAGES[:-1], ["2 x 3 x 4", "23 bytes", "instead of 24"]),
        (gzip.compress(IMAGES[:-1], mtime=0), ["2 x 3 x 4", "23 bytes", "instead of 24"]),
        (IMAGES + b"\0", ["2 x 3 x 4", "25 bytes", "instead of 24"]),
        (IMAGES[:9], ["9 bytes", "header"]),
        (IMAGES[:4], ["4 bytes", "header"]),
        (idx_bytes(np.zeros(5, np.uint8)), ["0x00000801", "images", "0x00000803"]),
        (b"\x89PNG\r\n\x1a\n", ["0x89504e47", "images", "0x00000803"]),
        (b"\0\0\x0d\3" + IMAGES[4:], ["0x00000d03", "0x00000803"]),
    ],
)
def test_a_defect_of_an_idx_file_is_named(tmp_path, content, words):
    path = tmp_path / "images"
    if content is not None:
        path.write_bytes(content)
    refused(lambda: idx.read(path, 3), path, *words)


def test_a_folder_is_no_idx_file(tmp_path):
    refused(lambda: idx.read(tmp_path, 3), tmp_path, "cannot be read")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ((3, 2, 2), np.zeros(4), ["images has 3 images", "labels has 4 labels"]),
        ((0, 2, 2), np.zeros(0), ["images: holds no image"]),
        ((4, 2, 2), np.array([0, 9, 10, 11]), ["labels: label 10 of example 2", "0 to 9"]),
        ((4,), np.zeros(4), ["images: its magic number"]),
        ((4, 2, 2), np.zeros((4, 2, 2)), ["labels: its magic number", "IDX file of labels"]),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(tmp_path, images, labels, words):
    write_idx(tmp_path / "images", np.zeros(images, np.uint8))
    write_idx(tmp_path / "labels", labels.astype(np.uint8))
    refused(lambda: idx.read_pair(tmp_path / "images", tmp_path / "labels", 10), *words)
