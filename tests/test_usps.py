"""usps: the zip-code files found, prepared once, kept as published, and every defect named."""

import functools
import gzip
import re

import numpy as np
import pytest

import experiments
from cnnjax import data, ops
from cnnjax.command import main
from cnnjax.data import zip_text
from cnnjax.models.lenet import lenet_inputs
from experiments import strategies, zipcode
from tests.data_files import config_of, nothing_prepared, refused, same


def small_usps():
    """240 training and 40 test images with three decimals, all different."""
    random = np.random.RandomState(0)
    return {
        split: (
            random.randint(-1000, 1001, (count, 256)) / 1000,
            random.permutation(np.arange(count) % 10),
        )
        for split, count in (("train", 240), ("test", 40))
    }


def zip_lines(images, labels):
    """As the published files have them: blanks at the ends of lines, labels like 6.0000."""
    return "".join(
        f"{label:.4f} " + " ".join(f"{value:.4f}" for value in image) + " \n"
        for image, label in zip(images, labels, strict=True)
    ).encode()


def write_zip(folder, arrays, end=""):
    folder.mkdir(parents=True, exist_ok=True)
    for split, pair in arrays.items():
        content = zip_lines(*pair)
        content = gzip.compress(content, mtime=0) if end == ".gz" else content
        (folder / f"zip.{split}{end}").write_bytes(content)
    return folder


@pytest.fixture
def zips(tmp_path):
    return write_zip(tmp_path / "files", small_usps())


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("subfolder", ["", "usps"])
def test_usps_is_found_and_kept_as_published(tmp_path, end, subfolder):
    arrays = small_usps()
    write_zip(tmp_path / "files" / subfolder, arrays, end)
    dataset = data.load("usps", tmp_path / "data", tmp_path / "files")
    (images, labels), (test_images, test_labels) = arrays["train"], arrays["test"]
    test = dataset.splits["test"]
    assert test["inputs"].shape == (40, 16, 16, 1)
    published = 2 * test["inputs"].reshape(40, 256) - 1
    np.testing.assert_allclose(published, test_images, atol=1e-6)
    assert np.array_equal(test["labels"], test_labels)
    at = {np.round(image, 3).tobytes(): row for row, image in enumerate(images + 0.0)}
    for split, count in (("train", 220), ("validation", 20)):
        inputs = 2 * dataset.splits[split]["inputs"].astype(np.float64) - 1
        rows = [at[(np.round(image, 3) + 0.0).tobytes()] for image in inputs.reshape(-1, 256)]
        assert rows == sorted(set(rows))
        assert len(rows) == count
        assert np.array_equal(dataset.splits[split]["labels"], labels[rows])
    assert np.bincount(dataset.splits["validation"]["labels"]).tolist() == [2] * 10
    assert {s["inputs"].dtype for s in dataset.splits.values()} == {np.dtype(np.float32)}
    assert {s["labels"].dtype for s in dataset.splits.values()} == {np.dtype(np.int32)}
    assert dataset.classes == tuple("0123456789")
    assert str(tmp_path / "files") in dataset.provenance["source"]


def test_files_are_prepared_once_and_changed_ones_anew(tmp_path, zips, capsys):
    first = data.load("usps", tmp_path / "data", zips)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("preparing zip_digits/usps-")
    assert re.fullmatch("usps-[0-9a-f]{12}", config_of(first))
    assert same(first, data.load("usps", tmp_path / "data", zips))
    assert capsys.readouterr().err == ""
    arrays = small_usps()
    arrays["test"][1][3] = (arrays["test"][1][3] + 1) % 10
    write_zip(zips, arrays)
    after = data.load("usps", tmp_path / "data", zips)
    assert not same(first, after)
    assert config_of(first) != config_of(after)


WHOLE = zip_lines(*small_usps()["test"])
LINES = WHOLE.splitlines(keepends=True)


def changed(number, change):
    """The file with line ``number`` (1, 2, ...) changed by ``change(words) -> words``."""
    words = change(LINES[number - 1].split())
    return b"".join([*LINES[: number - 1], b" ".join(words) + b"\n", *LINES[number:]])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(3, lambda w: w[:-1]), ["line 3", "holds 256 numbers", "256 grey values"]),
        (changed(40, lambda w: [*w, b"0.5"]), ["line 40", "holds 258 numbers"]),
        (WHOLE + b"\n", ["line 41", "holds 0 numbers"]),
        (changed(1, lambda w: [*w[:9], b"ink", *w[10:]]), ["line 1:", "'ink' (grey value 9)"]),
        (changed(7, lambda w: [b"six", *w[1:]]), ["line 7", "'six' (its label) is not a number"]),
        (changed(2, lambda w: [*w[:-1], b"1.001"]), ["line 2", "grey value 256 is 1.001", "-1..1"]),
        (changed(2, lambda w: [w[0], b"-1.5", *w[2:]]), ["line 2", "grey value 1 is -1.5"]),
        (changed(9, lambda w: [*w[:5], b"nan", *w[6:]]), ["line 9", "grey value 5 is nan"]),
        (changed(9, lambda w: [*w[:5], b"inf", *w[6:]]), ["line 9", "grey value 5 is inf"]),
        (changed(4, lambda w: [b"10.0000", *w[1:]]), ["line 4", "its label is 10", "0 .. 9"]),
        (changed(4, lambda w: [b"-1.0000", *w[1:]]), ["line 4", "its label is -1"]),
        (changed(4, lambda w: [b"6.5", *w[1:]]), ["line 4", "its label is 6.5"]),
        (changed(5, lambda w: [*w[:3], b"\xff\xfe", *w[4:]]), ["line 5", r"'\xff\xfe'"]),
        (WHOLE.decode().encode("utf-16"), ["line 1", "is not a number"]),
        (b"", ["holds no image"]),
        (gzip.compress(b"", mtime=0), ["holds no image"]),
        (gzip.compress(WHOLE, mtime=0)[:-9], ["cannot be read", "truncated"]),
        (gzip.compress(WHOLE, mtime=0)[:6], ["cannot be read", "truncated"]),
        (WHOLE[:-30], ["line 40"]),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_defect_is_named_and_leaves_nothing_prepared(tmp_path, zips, split, content, words):
    path = zips / f"zip.{split}"
    path.write_bytes(content)
    refused(lambda: data.load("usps", tmp_path / "data", zips), path, *words)
    assert nothing_prepared(tmp_path / "data")


def test_labels_may_be_integers(tmp_path):
    path = tmp_path / "zip.test"
    path.write_bytes(WHOLE.replace(b".0000 ", b" ", 1))
    images, labels = zip_text.read(path)
    assert images.shape == (40, 16, 16)
    assert np.array_equal(labels, small_usps()["test"][1])


def test_missing_files_are_named(tmp_path, zips):
    message = refused(lambda: data.load("usps", tmp_path / "data"), "as manual_dir", "zip.test.gz")
    assert "hastie.su.domains" in message
    (zips / "zip.test").unlink()
    words = ["usps: zip.test (or zip.test.gz) is neither in", zips / "usps"]
    refused(lambda: data.load("usps", tmp_path / "data", zips), *words)
    assert not (tmp_path / "data").exists()


def test_grey_levels_of_either_type_are_one_scale():
    eight_bits = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = ops.intensity(eight_bits)
    np.testing.assert_allclose(found, eight_bits / 255, atol=1e-7)
    np.testing.assert_array_equal(ops.intensity(found), found)
    for prepare in (strategies._prepare, zipcode._prepare, functools.partial(lenet_inputs, 28)):
        np.testing.assert_allclose(prepare(found), prepare(eight_bits), atol=1e-6)


FEWER = ["--config.validation=50"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--experiment=strategies", "--config.train=150", "--config.test=50", *FEWER],
        ["--experiment=zipcode", "--config.batch_size=8", *FEWER],
    ],
)
def test_experiments_take_it_and_pictures(tmp_path, zips, flags, capsys):
    """Trained on floats, a network answers the same for the 8-bit picture of an image."""
    workdir = f"--workdir={tmp_path / 'run'}"
    places = [f"--data_dir={tmp_path / 'data'}", f"--manual_dir={zips}", workdir]
    base = [*flags, "--config.dataset=usps", "--config.epochs=1"]
    assert main(experiments, [*base, *places]) == 0
    assert "examples of 16x16x1 in 10 classes" in capsys.readouterr().out
    image = data.load("usps", tmp_path / "data", zips).splits["test"]["inputs"][:1]
    np.save(tmp_path / "float.npy", image)
    np.save(tmp_path / "bytes.npy", np.round(image * 255).astype(np.uint8))
    inputs = f"--inputs={tmp_path / 'float.npy'},{tmp_path / 'bytes.npy'}"
    assert main(experiments, [flags[0], workdir, "--mode=predict", inputs]) == 0
    answers = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2
    assert answers[0] == answers[1]
