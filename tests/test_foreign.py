"""Data files that a user has."""

import gzip

import pytest

from cnnjax.files import foreign
from tests.data_files import refused


@pytest.mark.parametrize("place", ["", "mnist"])
@pytest.mark.parametrize("written", ["train-images-idx3-ubyte", "train-images.idx3-ubyte"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_file_is_found_however_it_was_unpacked(tmp_path, place, written, end):
    path = tmp_path / place / (written + end)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert foreign.find("mnist", "train-images-idx3-ubyte", tmp_path) == path


def test_of_what_is_not_found_both_places_are_named(tmp_path):
    refused(lambda: foreign.find("usps", "zip.train", tmp_path), "zip.train.gz", tmp_path / "usps")


@pytest.mark.parametrize("packed", [[b""], [b"a"], [b"one", b"", b"two"]])
def test_gzip_is_unpacked_member_by_member(tmp_path, packed):
    path = tmp_path / "a"
    path.write_bytes(b"".join(map(gzip.compress, packed)) + b"\0" * 5)
    assert foreign.unpacked(path) == b"".join(packed)


def test_what_is_cut_or_changed_is_refused(tmp_path):
    path, whole = tmp_path / "a", gzip.compress(b"0123456789" * 20, mtime=0)
    for content in (whole[:-1], whole[:15], whole[:-6] + b"?" + whole[-5:], whole + b"more"):
        path.write_bytes(content)
        refused(lambda: foreign.unpacked(path), path, "cannot be read")


def test_gzip_within_gzip_is_named(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(gzip.compress(b"a")))
    refused(lambda: foreign.unpacked(path), path, "gzip within gzip")


def test_what_unpacks_to_much_more_is_refused(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(70 << 20), 1))
    refused(lambda: foreign.unpacked(path), path, "unpacks to more than")
