"""mnist and fashion_mnist: found, prepared once, downloaded, refused."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import re
import resource
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import compute_url_info

from cnnjax import data
from cnnjax.data import idx_images
from cnnjax.data.dataset import checksum
from tests.data_files import (
    STEMS,
    config_of,
    in_order,
    nothing_prepared,
    refused,
    same,
    small_mnist,
    write_files,
)


def publish(monkeypatch, folder, name="mnist", address=None, **changed):
    """Take the files in ``folder`` for those that are published as ``name``."""
    address = address or idx_images.SOURCES[name].address
    infos = {
        address + path.name: dataclasses.replace(compute_url_info(path), **changed)
        for path in folder.iterdir()
    }
    monkeypatch.setattr(idx_images.IdxImages, "url_infos", infos)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_mnist_is_found_and_kept_in_order(tmp_path, end, subfolder):
    arrays = small_mnist()
    write_files(tmp_path / "files" / subfolder, arrays, end)
    dataset = data.load("mnist", tmp_path / "data", tmp_path / "files")
    (images, labels), (test_images, test_labels) = arrays["train"], arrays["test"]
    test = dataset.splits["test"]
    assert np.array_equal(test["inputs"], test_images[..., None])
    assert np.array_equal(test["labels"], test_labels)
    at = {image.tobytes(): row for row, image in enumerate(images)}
    rows = {
        split: [at[image.tobytes()] for image in dataset.splits[split]["inputs"]]
        for split in ("train", "validation")
    }
    assert sorted(rows["train"] + rows["validation"]) == list(range(120))
    assert len(rows["validation"]) == 10
    for split, found in rows.items():
        assert found == sorted(found)
        assert np.array_equal(dataset.splits[split]["labels"], labels[found])
    assert np.array_equal(np.bincount(labels[rows["validation"]]), np.ones(10))
    assert {s["labels"].dtype for s in dataset.splits.values()} == {np.dtype(np.int32)}
    assert {s["inputs"].dtype for s in dataset.splits.values()} == {np.dtype(np.uint8)}
    assert dataset.classes == tuple("0123456789")
    assert dataset.provenance["sha256"] == checksum(*in_order(dataset))


def test_files_in_the_folder_itself_come_first(tmp_path, files):
    other = small_mnist()
    other["test"] = other["test"][0][:7], other["test"][1][:7]
    write_files(files / "mnist", other)
    assert len(data.load("mnist", tmp_path / "data", files).splits["test"]["labels"]) == 30


def test_fashion_mnist_has_its_own_classes_and_preparation(tmp_path, files):
    mnist, fashion = (data.load(n, tmp_path / "data", files) for n in ("mnist", "fashion_mnist"))
    assert fashion.classes[0] == "T-shirt"
    assert len(fashion.classes) == 10
    assert config_of(fashion).startswith("fashion_mnist-")
    assert same(mnist, fashion)


def test_other_files_than_the_published_are_prepared_once_under_another_name(
    tmp_path, files, capsys
):
    first = data.load("mnist", tmp_path / "data", files)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("preparing idx_images/mnist-")
    assert re.fullmatch("mnist-[0-9a-f]{12}", config_of(first))
    assert str(files) in first.provenance["source"]
    again = data.load("mnist", tmp_path / "data", files)
    assert capsys.readouterr().err == ""
    assert same(first, again)
    refused(lambda: data.load("mnist", tmp_path / "data"), "not prepared yet")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_changed_label_is_not_hidden_by_the_earlier_preparation(tmp_path, files, split):
    before = data.load("mnist", tmp_path / "data", files)
    arrays = small_mnist()
    arrays[split][1][5] = (arrays[split][1][5] + 1) % 10
    write_files(files, arrays)
    after = data.load("mnist", tmp_path / "data", files)
    assert not same(before, after)
    assert before.provenance["sha256"] != after.provenance["sha256"]
    assert config_of(before) != config_of(after)
    write_files(files, small_mnist())
    assert same(before, data.load("mnist", tmp_path / "data", files))


def test_the_published_files_are_needed_only_once(tmp_path, files, monkeypatch):
    shutil.rmtree(files)
    write_files(files, small_mnist(), ".gz")  # as they are published
    publish(monkeypatch, files)
    first = data.load("mnist", tmp_path / "data", files)
    assert config_of(first) == "mnist"
    assert str(files) not in first.provenance["source"]
    shutil.rmtree(files)
    assert same(first, data.load("mnist", tmp_path / "data"))


@pytest.mark.parametrize("wrong", ["other data set", "splits exchanged"])
def test_published_files_in_the_wrong_place_are_not_taken_for_the_data_set(
    tmp_path, monkeypatch, wrong
):
    published = write_files(tmp_path / "published", small_mnist(), ".gz")
    publish(monkeypatch, published, "fashion_mnist" if wrong == "other data set" else "mnist")
    if wrong == "splits exchanged":
        arrays = small_mnist()
        published = write_files(
            tmp_path / "exchanged", {"train": arrays["test"], "test": arrays["train"]}, ".gz"
        )
    assert config_of(data.load("mnist", tmp_path / "data", published)) != "mnist"


def damage(split, kind, change):
    path = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}[kind]
    return f"{STEMS[split]}-{path}", change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (*damage("train", "images", lambda b: b[:-1]), ["instead of 94,080"]),
        (*damage("test", "images", lambda b: gzip.compress(b)[:-9]), ["truncated"]),
        (*damage("train", "labels", lambda b: b[:-1] + b"\x0a"), ["label 10 of example 119"]),
        (*damage("test", "labels", lambda b: b[:7] + b"\x1d" + b[8:-1]), ["has 29 labels"]),
        (*damage("train", "labels", lambda b: b"\0\0\x08\3" + b[4:]), ["magic number"]),
    ],
)
def test_a_defect_leaves_nothing_prepared(tmp_path, files, name, change, words):
    whole = (files / name).read_bytes()
    (files / name).write_bytes(change(whole))
    load = lambda: data.load("mnist", tmp_path / "data", files)
    refused(load, files / name, *words)
    assert nothing_prepared(tmp_path / "data")
    (files / name).write_bytes(whole)
    assert len(load().splits["train"]["labels"]) == 110


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_of_another_size_are_refused(tmp_path, split):
    arrays = small_mnist()
    arrays[split] = arrays[split][0][:, 1:], arrays[split][1]
    files = write_files(tmp_path / "files", arrays)
    culprit = files / f"{STEMS[split]}-images-idx3-ubyte"
    load = lambda: data.load("mnist", tmp_path / "data", files)
    refused(load, f"{culprit}: its images are (27, 28)", "(28, 28)")
    assert nothing_prepared(tmp_path / "data")


def test_too_few_images_for_a_validation_split_are_refused(tmp_path):
    arrays = small_mnist()
    arrays["train"] = arrays["train"][0][:5], arrays["train"][1][:5]
    files = write_files(tmp_path / "files", arrays)
    refused(
        lambda: data.load("mnist", tmp_path / "data", files),
        "data set mnist: its validation split is empty",
        "35 examples (5 train, 0 validation, 30 test)",
        "at least one",
    )


def test_a_missing_file_is_named_with_both_places(tmp_path, files):
    (files / "t10k-labels-idx1-ubyte").unlink()
    message = refused(lambda: data.load("mnist", tmp_path / "data", files), files / "mnist")
    assert "t10k-labels-idx1-ubyte (or t10k-labels-idx1-ubyte.gz)" in message
    assert f"neither in {files} nor" in message
    assert not (tmp_path / "data").exists()


def test_a_file_as_data_dir_is_refused(tmp_path, files):
    (tmp_path / "data").write_text("")
    refused(
        lambda: data.load("mnist", tmp_path / "data", files),
        f"data_dir={tmp_path / 'data'}: is a file",
    )
    below = tmp_path / "data" / "below"
    refused(lambda: data.load("mnist", below, files), f"data set mnist: {below}: Not a directory")


def test_an_idx_file_that_the_system_refuses_is_named(tmp_path, files, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    file = files / "train-images-idx3-ubyte"
    refused(lambda: data.load("mnist", tmp_path, files), f"mnist: {file}: Permission denied")


def test_files_that_cannot_be_written_are_refused(tmp_path, files):
    folder = tmp_path / "data"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        refused(lambda: data.load("mnist", folder, files), f"cannot be prepared in {folder}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert nothing_prepared(folder)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_network_the_message_says_what_to_put_where(tmp_path, name):
    message = refused(
        lambda: data.load(name, tmp_path / "data"), "cannot reach", "name it as manual_dir"
    )
    assert [f"{stem}.gz" in message for stem in idx_images._FILES.values()] == [True] * 4
    assert not (tmp_path / "data").exists()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server of this machine that publishes ``mnist``: its folder and its address."""
    folder = write_files(tmp_path / "site", small_mnist(), ".gz")
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        source = dataclasses.replace(idx_images.SOURCES["mnist"], address=address)
        monkeypatch.setitem(idx_images.SOURCES, "mnist", source)
        config = idx_images.IdxImages.builder_configs["mnist"]
        monkeypatch.setattr(config, "source", source)
        publish(monkeypatch, folder, address=address)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, address
        server.shutdown()
        thread.join()


def test_published_files_are_downloaded_once(tmp_path, site):
    first = data.load("mnist", tmp_path / "data")
    test_images, test_labels = small_mnist()["test"]
    assert np.array_equal(first.splits["test"]["inputs"], test_images[..., None])
    assert np.array_equal(first.splits["test"]["labels"], test_labels)
    assert config_of(first) == "mnist"
    shutil.rmtree(site[0])
    assert same(first, data.load("mnist", tmp_path / "data"))


def test_a_download_with_another_checksum_is_refused(tmp_path, site, monkeypatch):
    publish(monkeypatch, site[0], address=site[1], checksum=hashlib.sha256(b"").hexdigest())
    with pytest.raises(Exception, match="checksum"):
        data.load("mnist", tmp_path / "data")
    assert nothing_prepared(tmp_path / "data")


@pytest.mark.parametrize("defect", ["wrong checksum", "missing"])
def test_a_failed_download_is_a_users_error(tmp_path, site, monkeypatch, defect):
    folder, address = site
    if defect == "missing":
        (folder / "t10k-images-idx3-ubyte.gz").unlink()
    else:
        publish(monkeypatch, folder, address=address, checksum="0" * 64)
    refused(lambda: data.load("mnist", tmp_path / "data"), "idx3-ubyte.gz")


@pytest.fixture(scope="module")
def mnist(real_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    return data.load("mnist", folder, real_data), folder


def test_the_real_mnist(mnist):
    dataset, folder = mnist
    assert config_of(dataset) == "mnist"
    sizes = {split: examples["inputs"].shape for split, examples in dataset.splits.items()}
    tail = (28, 28, 1)
    assert sizes == {"train": (55000, *tail), "validation": (5000, *tail), "test": (10000, *tail)}
    assert np.bincount(dataset.splits["test"]["labels"]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert checksum(*dataset.splits["validation"].values()) == (
        "ff92aa98f73837c54c7119fb4756bea56073e2ae3787da2b07b461273b47bdde"
    )
    assert same(dataset, data.load("mnist", folder))  # no files, no network
