"""Small data files as they are published, and what a refusal of a defective one looks like."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError

STEMS = {"train": "train", "test": "t10k"}


def refused(call, *words):
    """``call`` raises a UserError of one line that contains all ``words``."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def write_idx(path, array):
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def small_mnist():
    """120 training and 30 test images, all different, in the form of the published files."""
    random = np.random.RandomState(0)
    arrays = {}
    for split, count in (("train", 120), ("test", 30)):
        images = random.randint(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays[split] = images, random.permutation(np.arange(count) % 10).astype(np.uint8)
    return arrays


def write_files(folder, arrays, end=""):
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in arrays.items():
        write_idx(folder / f"{STEMS[split]}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{STEMS[split]}-labels-idx1-ubyte{end}", labels)
    return folder


def config_of(dataset):
    return Path(dataset.provenance["prepared"]).parent.name


def same(a, b):
    return all(map(np.array_equal, in_order(a), in_order(b)))


def in_order(dataset):
    """All arrays of ``dataset``, in the order of its checksum."""
    return [
        dataset.splits[split][key]
        for split in ("train", "validation", "test")
        for key in ("inputs", "labels")
    ]


def nothing_prepared(folder):
    return not [*folder.rglob("dataset_info.json"), *folder.rglob("*array_record*")]
