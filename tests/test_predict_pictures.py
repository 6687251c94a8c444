"""--mode=predict on folders of pictures: the printed lines, the table and the contact sheet."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

import experiments
from cnnjax import data
from cnnjax.command import main
from cnnjax.data import pictures
from cnnjax.experiment.prediction import Labelled
from cnnjax.reports import contact_sheet
from tests import image_folders
from tests.mistakes import refused

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return image_folders.write(tmp_path_factory.mktemp("shapes"), {"train": 20, "val": 4})


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """A run of a linear classifier on pictures that their colours tell apart."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    argv = ["--experiment=lenet", f"--workdir={workdir}", f"--config.dataset=folder:{shapes}:16",
            "--config.model=linear", "--config.epochs=15"]  # fmt: skip
    assert main(experiments, argv) == 0
    return workdir


def ask(finished, *inputs):
    argv = ["--experiment=lenet", f"--workdir={finished}", "--mode=predict"]
    return [*argv, f"--inputs={','.join(map(str, inputs))}"]


def table(finished):
    with open(finished / "report" / "predictions.csv", newline="") as file:
        return list(csv.reader(file))


def test_a_folder_is_labelled(capsys, shapes, finished):
    assert main(experiments, ask(finished, shapes / "val")) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    files = sorted((shapes / "val").rglob("*.jpg"))
    assert [line.split(": ")[0] for line in lines] == list(map(str, files))
    header, *rows = table(finished)
    assert header == ["file", "label", "probability", *CLASSES]
    assert [row[0] for row in rows] == list(map(str, files))
    stored = np.load(finished / "predictions.npz")["logits"]
    expected = np.exp(stored) / np.exp(stored).sum(1, keepdims=True)
    shares = np.array([list(map(float, row[3:])) for row in rows])
    np.testing.assert_allclose(shares, expected, atol=2e-6)  # val is the test split
    for line, row, share in zip(lines, rows, shares, strict=True):
        assert row[1] == CLASSES[share.argmax()]
        assert float(row[2]) == share.max()
        assert f": {row[1]} ({share.max():.1%}), then " in line
    right = sum(f"/{row[1]}/" in row[0] for row in rows)
    assert right == 12
    assert captured.err.split() == [
        str(finished / "report" / name) for name in ("predictions.csv", "predictions.png")
    ]


def test_pictures_are_seen_as_those_of_the_data_set(shapes, finished, tmp_path):
    inputs = data.load(f"folder:{shapes}:16", tmp_path).splits["test"]["inputs"]
    for path, image in zip(inputs.paths, np.asarray(inputs), strict=True):
        assert np.array_equal(pictures.read(path, (16, 16, 3), "centre")[0], image)
        assert not np.array_equal(pictures.read(path, (16, 16, 3))[0], image)


def test_the_sheet_shows_what_was_seen(shapes, finished):
    files = sorted((shapes / "val").rglob("*.jpg"))
    assert main(experiments, ask(finished, *files)) == 0
    page = np.asarray(Image.open(finished / "report" / "predictions.png"))
    side, gap = contact_sheet._SIDE, contact_sheet._GAP
    left, top = contact_sheet._MARGIN, contact_sheet._MARGIN + 2 * contact_sheet._TITLE
    for place, path in enumerate(files):
        row, column = divmod(place, 8)
        y, x = top + row * (side + contact_sheet._TEXT + gap), left + column * (side + gap)
        tile = page[y : y + side, x : x + side].astype(int)
        seen = pictures.read(path, (16, 16, 3), "centre")[0]
        assert np.array_equal(tile[::9, ::9], seen)  # 144 = 9 x 16 pixels
        bar = (page[y + side + 3, x : x + side] == contact_sheet._BAR).all(-1)
        assert bar.sum() == round(float(table(finished)[1 + place][2]) * side)
        under = page[y + side + 6 : y + side + contact_sheet._TEXT, x : x + side]
        assert (under < 100).all(-1).any()  # there is text


def test_what_cannot_be_read_in_a_folder_is_reported(capsys, shapes, finished, tmp_path):
    own = shutil.copytree(shapes / "val", tmp_path / "own")
    (own / "red" / "00.jpg").write_bytes(b"<html>")
    (own / "notes.txt").write_text("a text")
    assert main(experiments, ask(finished, own)) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 11
    named, skipped, *_ = captured.err.splitlines()
    assert named == f"{own}: skipped, as no image by its name: {own / 'notes.txt'}"
    assert skipped.startswith(f"skipped: {own / 'red' / '00.jpg'}: cannot be read as an image")
    assert len(table(finished)) == 12


def test_mistakes_write_nothing(capsys, shapes, finished, tmp_path):
    shutil.rmtree(finished / "report")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"<html>")
    good = next((shapes / "val").rglob("*.jpg"))
    empty = tmp_path / "empty"
    empty.mkdir()
    for inputs, words in (
        ((good, broken), [f"--inputs={broken}", "cannot be read as an image"]),
        ((tmp_path / "none.jpg",), ["there is no such file"]),
        ((empty,), [f"--inputs={empty}", "holds no image", ".jpeg"]),
        ((tmp_path,), ["not one of these pictures"]),
    ):
        if len(words) == 1 and words[0].startswith("not one"):
            assert main(experiments, ask(finished, *inputs)) == 2
            message = capsys.readouterr().err
        else:
            message = refused(capsys, *ask(finished, *inputs))
        assert [word for word in words if word not in message] == []
    assert not (finished / "report").exists()


def test_many_pictures_are_all_in_the_table_and_some_on_the_sheet(tmp_path):
    random = np.random.RandomState(0)
    labelled = [
        Labelled(f"{i}.png", random.randint(0, 256, (8, 8, 1)).astype(np.uint8), np.float32(shares))
        for i, shares in enumerate(random.dirichlet([1, 1], contact_sheet.MOST + 3))
    ]
    written = contact_sheet.write(tmp_path / "report", ("a" * 60, "b,\n"), labelled)
    assert sorted(tmp_path.rglob("*.*")) == sorted(written)
    with open(written[0], newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][4] == "b,\n"
    assert len(rows) == contact_sheet.MOST + 4
    few = contact_sheet.sheet(("a", "b"), labelled[: contact_sheet.MOST])
    assert Image.open(written[1]).size == few.size


@pytest.mark.parametrize("shape", [(28, 28, 1), (300, 200, 3), (20, 30, 3)])
def test_thumbnails_of_any_shape_and_type(shape):
    levels = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    whole = contact_sheet._thumbnail(levels)
    assert whole.size == (contact_sheet._SIDE,) * 2
    assert np.array_equal(np.asarray(contact_sheet._thumbnail(levels / 255)), np.asarray(whole))
