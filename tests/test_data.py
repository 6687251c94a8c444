"""Data sets: their files, their splits, their order, and what is said when they are defective."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorflow_datasets.core.download.checksums import compute_url_info

from cnnjax import data
from cnnjax.data import idx, idx_images, pictures
from cnnjax.data.dataset import checksum, stratified_parts
from cnnjax.data.order import epoch_rows, sequential_rows
from cnnjax.errors import UserError

ROOT = Path(__file__).parents[1]
STEMS = {"train": "train", "test": "t10k"}


@pytest.fixture(autouse=True, scope="module")
def offline():
    """No test reaches another machine, nor waits for one."""
    resolve = socket.getaddrinfo

    def local_only(host, *args, **kwargs):
        if host != "127.0.0.1":
            raise socket.gaierror("offline")
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", local_only)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


def refused(call, *words):
    """``call`` raises a UserError of one line that contains all ``words``."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


# -- drawn splits ---------------------------------------------------------------------------------


@settings(database=None, derandomize=True, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=200),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32 - 1),
)
def test_a_drawn_part_has_its_size_and_every_classs_share(labels, fraction, seed):
    labels = np.array(labels)
    part, rest = stratified_parts(labels, (fraction,), seed)
    assert sorted([*part, *rest]) == list(range(len(labels)))
    assert len(part) == round(fraction * len(labels))
    for label in np.unique(labels):
        share = fraction * (labels == label).sum()
        assert abs((labels[part] == label).sum() - share) <= 1 + 1e-9
    assert all((np.diff(rows) > 0).all() for rows in (part, rest))
    again = stratified_parts(labels, [fraction], seed)
    assert all(map(np.array_equal, (part, rest), again))


@pytest.mark.parametrize("fractions", [(0.2, 0.1), (0.1, 0.2, 0.3), (1 / 3, 1 / 3)])
@pytest.mark.parametrize("seed", range(3))
def test_several_drawn_parts_are_disjoint_and_complete(fractions, seed):
    labels = np.random.RandomState(seed).randint(0, 4, 501)
    parts = stratified_parts(labels, fractions, seed)
    assert len(parts) == len(fractions) + 1
    assert sorted(np.concatenate(parts)) == list(range(501))
    for part, fraction in zip(parts, fractions, strict=False):
        assert abs(len(part) - fraction * 501) <= 1
        for label in range(4):
            assert abs((labels[part] == label).sum() - fraction * (labels == label).sum()) < 2


def test_several_drawn_parts_are_disjoint_in_tiny_classes():
    parts = stratified_parts(np.arange(3), (0.2, 0.1), 0)
    assert sorted(np.concatenate(parts)) == [0, 1, 2]


def test_every_drawn_part_has_its_rounded_size():
    test, validation, _ = stratified_parts(np.zeros(5), (0.2, 0.1), 0)
    assert (len(test), len(validation)) == (round(0.2 * 5), round(0.1 * 5))


def test_another_seed_draws_another_part():
    labels = np.arange(1000) % 7
    draws = {stratified_parts(labels, (0.2,), seed)[0].tobytes() for seed in range(20)}
    assert len(draws) == 20


def test_the_draw_never_changes():
    parts = stratified_parts(np.arange(1000) % 7, (0.2, 0.1), 1989)
    assert checksum(*parts) == "a138cdfb04c295604f0818a9d1bfa902c772c1c16d0b9ba89bad480f7d173014"


# -- digits ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize(
    ("split", "count", "content"),
    [
        ("train", 1258, "22cb568048136be06de23dc6bbea6140566bd35accc57408495bab67f39c32c4"),
        ("validation", 180, "c3947b62eeafb93de6690dff59bb0b83f2f76cb77f5afefe755fc624dc573e2b"),
        ("test", 359, "4ae0ff67d1022b5bf71090f8b67eae0fa8905a5a406f49eced200e1a7ab56bd2"),
    ],
)
def test_digits_splits(digits, split, count, content):
    inputs, labels = digits.splits[split]["inputs"], digits.splits[split]["labels"]
    assert (inputs.shape, inputs.dtype) == ((count, 8, 8, 1), np.uint8)
    assert (labels.shape, labels.dtype) == ((count,), np.int32)
    assert (inputs.min(), inputs.max()) == (0, 255)
    assert set(labels) == set(range(10))
    assert checksum(inputs, labels) == content


def test_digits_as_a_whole(digits):
    everything = [image.tobytes() for s in digits.splits.values() for image in s["inputs"]]
    assert len(everything) == len(set(everything)) == 1797  # none is in two splits
    assert list(digits.splits) == ["train", "validation", "test"]
    assert digits.classes == tuple("0123456789")
    assert digits.spec == data.Spec((8, 8, 1), digits.classes, 1258)
    assert digits.provenance["sha256"] == (
        "ebecda1be494c8317af2fcb5cf3dd954ffb4935cb724195ac497b5239f0a5948"
    )
    for words in ("digits", "1,258 train", "8x8x1", "10 classes", "scikit-learn"):
        assert words in digits.describe()


# -- names and places -----------------------------------------------------------------------------


def test_an_unknown_data_set_gets_the_valid_names():
    refused(lambda: data.load("minst"), "'minst'", *data.names())


def test_a_missing_manual_dir_is_named(tmp_path):
    folder = tmp_path / "none"
    refused(lambda: data.load("mnist", tmp_path, folder), f"--manual_dir={folder}")


# -- IDX files ------------------------------------------------------------------------------------


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def write_idx(path, array):
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


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
        (gzip.compress(b""), ["empty", "0x00000803"]),
        (gzip.compress(IMAGES)[:-10], ["cannot be read", "truncated"]),
        (gzip.compress(IMAGES)[:6], ["cannot be read", "truncated"]),
        (gzip.compress(IMAGES) + b"left over", ["cannot be read"]),
        (IMAGES[:-1], ["2 x 3 x 4", "23 bytes", "instead of 24"]),
        (gzip.compress(IMAGES[:-1]), ["2 x 3 x 4", "23 bytes", "instead of 24"]),
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


# -- mnist and fashion_mnist ----------------------------------------------------------------------


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


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path / "files", small_mnist())


def config_of(dataset):
    return Path(dataset.provenance["prepared"]).parent.name


def same(a, b):
    return all(
        np.array_equal(a.splits[split][key], b.splits[split][key])
        for split in ("train", "validation", "test")
        for key in ("inputs", "labels")
    )


def nothing_prepared(folder):
    return not [*folder.rglob("dataset_info.json"), *folder.rglob("*array_record*")]


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
        (*damage("train", "labels", lambda b: IMAGES), ["magic number"]),
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


def test_images_of_another_size_are_refused(tmp_path):
    arrays = {split: (images[:, 1:], y) for split, (images, y) in small_mnist().items()}
    files = write_files(tmp_path / "files", arrays)
    refused(lambda: data.load("mnist", tmp_path / "data", files), "(27, 28)", "(28, 28)")
    assert nothing_prepared(tmp_path / "data")


def test_a_missing_file_is_named_with_both_places(tmp_path, files):
    (files / "t10k-labels-idx1-ubyte").unlink()
    message = refused(lambda: data.load("mnist", tmp_path / "data", files), files / "mnist")
    assert "t10k-labels-idx1-ubyte (or t10k-labels-idx1-ubyte.gz)" in message
    assert f"neither in {files} nor" in message
    assert not (tmp_path / "data").exists()


def test_a_file_as_data_dir_is_refused(tmp_path, files):
    (tmp_path / "data").write_text("")
    refused(lambda: data.load("mnist", tmp_path / "data", files), "--data_dir")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_network_the_message_says_what_to_put_where(tmp_path, name):
    message = refused(lambda: data.load(name, tmp_path / "data"), "cannot reach", "--manual_dir")
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


# -- any set of TFDS ------------------------------------------------------------------------------


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Ten classes of 4x4 images; the configs lack something each."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=name)
        for name in ("all", "only_train", "no_train", "no_label", "unequal")
    ]

    def _info(self):
        side = None if self.builder_config.name == "unequal" else 4
        label = tfds.features.ClassLabel(num_classes=10)
        if self.builder_config.name == "no_label":
            label = tfds.features.Scalar(np.int64)
        image = tfds.features.Tensor(shape=(side, 4, 1), dtype=np.uint8)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return self.dataset_info_from_configs(features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        splits = {"train": 100, "validation": 20, "test": 30}
        absent = {"only_train": {"validation", "test"}, "no_train": {"train"}}
        for name in absent.get(self.builder_config.name, ()):
            del splits[name]
        return {name: self._generate_examples(count) for name, count in splits.items()}

    def _generate_examples(self, count):
        for row in range(count):
            side = 4 + row % 2 * (self.builder_config.name == "unequal")
            image = np.full((side, 4, 1), row, np.uint8)
            yield row, {"image": image, "label": row % 10}


def load_tiny(config, folder):
    return data.load(f"tfds:tiny_images/{config}", folder)


def test_splits_that_tfds_has_are_taken_as_published(tmp_path):
    dataset = load_tiny("all", tmp_path)
    counts = {split: len(examples["labels"]) for split, examples in dataset.splits.items()}
    assert counts == {"train": 100, "validation": 20, "test": 30}
    assert dataset.provenance["split"] == "as published"
    assert dataset.spec == data.Spec((4, 4, 1), tuple("0123456789"), 100)
    for examples in dataset.splits.values():
        rows = examples["inputs"][:, 0, 0, 0]
        assert sorted(rows) == list(range(len(rows)))
        assert np.array_equal(examples["labels"], rows % 10)


def test_splits_that_tfds_lacks_are_drawn_from_train(tmp_path):
    dataset = load_tiny("only_train", tmp_path)
    rows = {split: ex["inputs"][:, 0, 0, 0] for split, ex in dataset.splits.items()}
    assert {split: len(r) for split, r in rows.items()} == {
        "train": 72,
        "validation": 8,
        "test": 20,
    }
    assert sorted(np.concatenate(list(rows.values()))) == list(range(100))
    assert np.array_equal(np.bincount(dataset.splits["test"]["labels"]), np.full(10, 2))
    assert "test: 20% of train" in dataset.provenance["split"]
    assert "validation: 10% of train" in dataset.provenance["split"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("no_train", ["no train split", "validation", "test"]),
        ("unequal", ["stacked"]),
        ("no_label", ["no image and class label"]),
    ],
)
def test_sets_that_cannot_be_learned_are_refused(tmp_path, config, words):
    refused(lambda: load_tiny(config, tmp_path), f"tfds:tiny_images/{config}", *words)


def test_a_prepared_set_is_read_by_its_tfds_name(tmp_path, files):
    config = config_of(data.load("mnist", tmp_path / "data", files))
    shutil.rmtree(files)
    for name in (f"tfds:idx_images/{config}", f"tfds:idx_images/{config}:1.0.0"):
        dataset = data.load(name, tmp_path / "data")
        counts = {split: len(examples["labels"]) for split, examples in dataset.splits.items()}
        assert counts == {"train": 108, "validation": 12, "test": 30}
        assert np.array_equal(dataset.splits["test"]["labels"], small_mnist()["test"][1])
        assert dataset.name == name
        assert dataset.provenance["split"].startswith("validation: 10% of train")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tfds:no_such_set", ["no_such_set not found"]),
        ("tfds:mnist", ["cannot reach storage.googleapis.com", "is not prepared in"]),
        ("tfds:mnist/no_such_config", ["no_such_config"]),
        ("tfds:", ["tfds:NAME"]),
        ("tfds:so2sat", ["cannot reach"]),
    ],
)
def test_a_tfds_set_that_cannot_be_had_is_refused(tmp_path, name, words):
    refused(lambda: data.load(name, tmp_path), name, *words)
    assert list(tmp_path.iterdir()) == []


# -- what is imported -----------------------------------------------------------------------------


def modules_after(code, path=""):
    """Names of the modules in ``sys.modules`` of a fresh Python after ``code``."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), str(path)])),
    }
    code = f"{code}\nimport sys; print(); print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return set(answer.stdout.splitlines()[-1].split())


def test_importing_the_package_imports_no_data_sets_library():
    modules = modules_after("import cnnjax, cnnjax.data, cnnjax.ops")
    assert {"cnnjax.data", "cnnjax.ops"} <= modules
    assert not modules & {"tensorflow_datasets", "matplotlib", "sklearn", "PIL", "tensorflow"}


def test_tensorflow_is_not_imported_even_where_it_is_installed(tmp_path, files):
    (tmp_path / "site" / "tensorflow").mkdir(parents=True)
    (tmp_path / "site" / "tensorflow" / "__init__.py").touch()
    config = config_of(data.load("mnist", tmp_path / "data", files))
    modules = modules_after(
        "from cnnjax import data\n"
        f"data.load('mnist', {str(tmp_path / 'fresh')!r}, {str(files)!r})\n"
        f"data.load('tfds:idx_images/{config}', {str(tmp_path / 'data')!r})",
        tmp_path / "site",
    )
    assert "tensorflow_datasets" in modules
    assert "tensorflow" not in modules


# -- order ----------------------------------------------------------------------------------------

SHAPES = [(10, 5, None), (10, 4, None), (10, 4, 6), (3, 8, 8), (1, 1, 2), (97, 32, 40)]


@pytest.mark.parametrize(("count", "batch_size", "width"), SHAPES)
def test_every_example_occurs_once_an_epoch(count, batch_size, width):
    key = jax.random.key(0)
    shuffled = epoch_rows(key, 0, count=count, batch_size=batch_size, width=width)
    plain = sequential_rows(count, batch_size, width)
    for rows, weights in (map(np.asarray, shuffled), plain):
        steps = -(-count // batch_size)
        assert rows.shape == weights.shape == (steps, width or batch_size)
        assert (rows.dtype, weights.dtype) == (np.int32, np.float32)
        assert set(np.unique(weights)) <= {0, 1}
        assert sorted(rows[weights == 1]) == list(range(count))
        assert ((rows >= 0) & (rows < count)).all()
        assert weights.sum(1).tolist() == [
            min(batch_size, count - start) for start in range(0, count, batch_size)
        ]
    assert plain[0][plain[1] == 1].tolist() == list(range(count))


def test_the_order_is_a_function_of_key_and_epoch_alone():
    def order(seed, epoch, batch_size=16, width=None):
        key = jax.random.key(seed)
        rows, weights = epoch_rows(key, epoch, count=50, batch_size=batch_size, width=width)
        return tuple(np.asarray(rows)[np.asarray(weights) == 1])

    assert order(0, 0) == order(0, 0) == order(0, 0, width=24) == order(0, 0, batch_size=7)
    assert len({order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


# -- pictures -------------------------------------------------------------------------------------

STROKE = np.zeros((20, 20), np.uint8)
STROKE[4:16, 8:12] = 255


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("ink", [STROKE, 255 - STROKE], ids=["light ink", "dark ink"])
def test_pictures_are_resized_and_turned_to_light_ink_on_black(tmp_path, ink, mode):
    Image.fromarray(ink).convert(mode).save(tmp_path / "a.png")
    (found,) = pictures.read(tmp_path / "a.png", (10, 10, 1))
    assert found.dtype == np.uint8
    assert np.array_equal(found[..., 0], STROKE[::2, ::2])


def test_colour_pictures_are_not_turned(tmp_path):
    color = np.stack([255 - STROKE, STROKE, STROKE // 3], -1)
    Image.fromarray(color).save(tmp_path / "a.png")
    found = pictures.read(tmp_path / "a.png", (20, 20, 3))
    assert np.array_equal(found, color[None])


@pytest.mark.parametrize("end", [".npy", ".npz"])
@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1),
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(24).reshape(2, 3, 4) / 255,
        (np.arange(12).reshape(3, 4) / 255).astype(np.float32),
    ],
    ids=["NHWC", "NHW", "HW", "float64", "float32"],
)
def test_arrays_are_taken_in_every_form(tmp_path, array, end):
    path = tmp_path / f"a{end}"
    np.save(path, array) if end == ".npy" else np.savez(path, array)
    found = pictures.read(path, (3, 4, 1))
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.arange(array.size).reshape(-1, 3, 4, 1))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 3), np.uint8), ["(2, 4, 3)", "N x 3 x 4 x 1"]),
        (np.zeros((2, 3, 4, 3), np.uint8), ["(2, 3, 4, 3)", "N x 3 x 4 x 1"]),
        (np.zeros((0, 3, 4), np.uint8), ["(0, 3, 4)", "N x 3 x 4 x 1"]),
        (np.uint8(3), ["()", "N x 3 x 4 x 1"]),
        (np.full((3, 4), 255.0), ["0..1", "255..255"]),
        (np.full((3, 4), -0.1), ["0..1", "-0.1"]),
        (np.full((3, 4), np.nan), ["0..1", "nan"]),
        (np.zeros((3, 4), np.int64), ["int64", "uint8 or float"]),
        (np.zeros((3, 4), bool), ["bool", "uint8 or float"]),
        (np.full((3, 4), None), ["cannot be read as an array"]),
    ],
)
def test_unsuitable_arrays_are_refused(tmp_path, array, words):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"--inputs={path}", *words)


def as_file(kind):
    """The bytes of a good file of one 20x20 picture."""
    file = io.BytesIO()
    if kind == "png":
        Image.fromarray(STROKE).save(file, "PNG")
    else:
        {"npy": np.save, "npz": np.savez}[kind](file, STROKE)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", None, ["no such file"]),
        ("a.npy", None, ["no such file"]),
        ("a.png", b"a text", ["cannot be read as an image"]),
        ("a.npy", b"a text", ["cannot be read as an array"]),
        ("a.npz", b"a text", ["cannot be read as an array"]),
        ("a.npy", b"", ["cannot be read as an array"]),
        ("a.npy", as_file("npy")[:-1], ["cannot be read as an array"]),
        ("a.png", as_file("png")[:-30], ["cannot be read as an image"]),
        ("a.npz", as_file("npz")[:-1], ["cannot be read as an array"]),
        ("a.npy", as_file("npz"), ["a.npy"]),
        ("a.npz", as_file("npy"), ["a.npz"]),
    ],
)
def test_unreadable_pictures_are_refused(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(lambda: pictures.read(path, (3, 4, 1)), f"--inputs={path}", *words)
