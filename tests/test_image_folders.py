"""folder:PATH: images in folders as a data set; their mistakes."""

import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

import experiments
from cnnjax import data
from cnnjax.command import main
from cnnjax.data.folds import fold_rows, pool
from cnnjax.data.images import decoding, inspection
from cnnjax.data.images import image_files as image_files
from tests import image_folders
from tests.data_files import refused

SPLITS = {"train": 10, "val": 3}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return image_folders.write(tmp_path_factory.mktemp("shapes"), SPLITS)


@pytest.fixture
def own(shapes, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(shapes, tmp_path / "shapes")


def load(folder, data_dir, end=":32"):
    return data.load(f"folder:{folder}{end}", data_dir)


def torchvisions(path, size, resized):
    """Resize(resized), CenterCrop(size) of torchvision, written from its definition."""
    with open(path, "rb") as file:
        image = Image.open(file).convert("RGB")
    width, height = image.size
    if width <= height:
        image = image.resize((resized, int(resized * height / width)), Image.Resampling.BILINEAR)
    else:
        image = image.resize((int(resized * width / height), resized), Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2.0) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def test_train_and_val(shapes, tmp_path):
    found = load(shapes, tmp_path)
    assert found.classes == ("blue", "green", "red")
    assert found.spec.shape == (32, 32, 3)
    sizes = {split: len(part["labels"]) for split, part in found.splits.items()}
    assert sizes == {"train": 27, "validation": 3, "test": 9}
    for split, part in found.splits.items():
        assert part["labels"].dtype == np.int32
        assert part["inputs"].shape == (sizes[split], 32, 32, 3)
        folder = "val" if split == "test" else "train"
        for path, label in zip(part["inputs"].paths, part["labels"], strict=True):
            assert path.parent == shapes / folder / found.classes[label]
    everything = [path for part in found.splits.values() for path in part["inputs"].paths]
    assert sorted(everything) == sorted(shapes.rglob("*.jpg"))
    assert "test: the folder val" in found.provenance["split"]
    assert "validation: 10% of train" in found.provenance["split"]


def test_images_are_torchvisions(shapes, tmp_path):
    inputs = load(shapes, tmp_path, ":21").splits["test"]["inputs"]
    images = np.asarray(inputs)
    assert images.dtype == np.uint8
    for path, image in zip(inputs.paths, images, strict=True):
        assert np.array_equal(image, torchvisions(path, 21, 24)), path


@pytest.mark.parametrize("names", [("validation", "test"), ("val", "test"), ("test",)])
def test_other_splits(tmp_path, names):
    folder = image_folders.write(tmp_path / "own", {"train": 10} | dict.fromkeys(names, 2))
    found = load(folder, tmp_path)
    sizes = [len(part["labels"]) for part in found.splits.values()]
    assert sizes == ([30, 6, 6] if len(names) == 2 else [27, 3, 6])
    places = {path.parts[-3] for path in found.splits["validation"]["inputs"].paths}
    assert places == ({names[0]} if len(names) == 2 else {"train"})


def test_one_folder_is_divided(tmp_path):
    folder = image_folders.write(tmp_path / "own", {"": 20})
    found = load(folder, tmp_path)
    for split, count in {"train": 14, "validation": 2, "test": 4}.items():
        assert np.bincount(found.splits[split]["labels"]).tolist() == [count] * 3
    again = load(folder, tmp_path)
    assert again.provenance == found.provenance
    assert again.splits["test"]["inputs"].paths == found.splits["test"]["inputs"].paths


def test_the_default_size_is_torchvisions(shapes, tmp_path):
    found = load(shapes, tmp_path, "")
    assert found.spec.shape == (224, 224, 3)
    part = found.splits["validation"]["inputs"][:1]
    assert np.array_equal(np.asarray(part)[0], torchvisions(part.paths[0], 224, 256))


def test_what_is_no_image_is_skipped_and_reported(own, tmp_path):
    before = load(own, tmp_path)
    Image.new("P", (9, 9)).save(own / "train" / "red" / "nothing.gif")
    (own / "val" / "blue" / "notes.txt").write_text("a text")
    (own / "val" / "blue" / ".DS_Store").write_bytes(b"")
    (own / "train" / "__MACOSX").mkdir()
    (own / "train" / "red" / "more").mkdir()
    shutil.copy(own / "train" / "red" / "00.jpg", own / "train" / "red" / "more" / "X.JPEG")
    after = load(own, tmp_path)
    assert after.provenance["skipped"] == ["train/red/nothing.gif", "val/blue/notes.txt"]
    assert "train/red/nothing.gif, val/blue/notes.txt" in after.describe()
    assert after.provenance["files"] == before.provenance["files"] + 1


def test_selections_are_not_decoded_before_they_are_asked_for(shapes, tmp_path, monkeypatch):
    found = load(shapes, tmp_path)
    inputs = found.splits["train"]["inputs"]
    expected = np.asarray(inputs)
    rows = np.array([5, 0, 5])
    monkeypatch.setattr(image_files.views, "centre", None)  # a second time they are not
    assert np.array_equal(np.asarray(inputs[rows]), expected[rows])
    assert np.array_equal(np.asarray(inputs[3:9:2]), expected[3:9:2])
    assert np.asarray(inputs[:0]).shape == (0, 32, 32, 3)
    fresh = load(shapes, tmp_path).splits["train"]["inputs"][rows]
    assert fresh.shape == (3, 32, 32, 3)
    refused(lambda: np.asarray(fresh), "not callable")


def test_folds_select_files(shapes, tmp_path):
    found = load(shapes, tmp_path)
    everything, _ = pool(found.splits)
    rows = fold_rows(everything["labels"], 0, 3, 0)
    parts = [everything["inputs"][rows[split]].paths for split in rows]
    assert sorted(itertools.chain(*parts)) == sorted(shapes.rglob("*.jpg"))


def test_the_checksum_is_of_contents_and_size(own, tmp_path):
    first = load(own, tmp_path).provenance["sha256"]
    assert load(own, tmp_path).provenance["sha256"] == first
    assert load(own, tmp_path, ":31").provenance["sha256"] != first
    moved = shutil.copytree(own, tmp_path / "moved")
    assert load(moved, tmp_path).provenance["sha256"] == first
    picture = image_folders.picture((1, 2, 3), seed=99)
    picture.save(own / "val" / "red" / "00.jpg")
    assert load(own, tmp_path).provenance["sha256"] != first


def test_files_are_checked_once(own, tmp_path, monkeypatch, capsys):
    first = load(own, tmp_path).provenance["sha256"]
    assert "checking 39 images" in capsys.readouterr().err
    monkeypatch.setattr(inspection, "_inspect", None)
    assert load(own, tmp_path).provenance["sha256"] == first
    assert not capsys.readouterr().err
    (record,) = (tmp_path / "images").iterdir()
    record.write_bytes(b"damaged")
    with pytest.raises(TypeError):  # it would be checked again
        load(own, tmp_path)


def test_hidden_folders_are_left_out(own, tmp_path):
    count = load(own, tmp_path).provenance["files"]
    hidden = own / "train" / "red" / ".ipynb_checkpoints"
    hidden.mkdir()
    shutil.copy(own / "train" / "red" / "00.jpg", hidden / "00-checkpoint.jpg")
    assert load(own, tmp_path).provenance["files"] == count


def test_a_data_directory_that_cannot_be_written_is_no_error(shapes, tmp_path):
    (tmp_path / "images").write_text("in the way")
    assert len(load(shapes, tmp_path).splits["test"]["labels"]) == 9


def truncate(path):
    path.write_bytes(path.read_bytes()[:400])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: truncate(f / "val/red/01.jpg"), ["val/red/01.jpg", "cannot be read", "repair"]),
        (lambda f: (f / "train/red/x.png").write_text("<html>"), ["red/x.png", "as an image"]),
        (lambda f: [p.unlink() for p in (f / "train/red").iterdir()], ["train/red holds no image"]),
        (lambda f: [p.unlink() for p in (f / "val/red").iterdir()], ["val/red holds no image"]),
        (lambda f: shutil.rmtree(f / "val/red"), ["val has other classes", "lacks: red"]),
        (lambda f: (f / "val/red").rename(f / "val/rot"), ["lacks: red and has: rot"]),
        (lambda f: shutil.rmtree(f / "val"), ["has the folders: train;", "train and val or test"]),
        (lambda f: shutil.rmtree(f / "train"), ["has the folders: val;", "train and val or test"]),
        (lambda f: (f / "validation").mkdir(), ["both val and validation"]),
        (lambda f: (f / "extra").mkdir(), ["extra, train, val"]),
        (
            lambda f: [shutil.rmtree(f / "train" / c) for c in ("blue", "green")],
            ["train has the one class 'red'", "at least two"],
        ),
        (lambda f: [shutil.rmtree(f / s) for s in SPLITS], ["no folder that is a class"]),
    ],
    ids=range(12),
)  # fmt: skip
def test_mistakes(own, tmp_path, spoil, words):
    spoil(own)
    refused(lambda: load(own, tmp_path), f"folder:{own}", *words)
    assert not (tmp_path / "images").exists()


def test_many_damaged_files_are_counted(own, tmp_path):
    for path in (own / "train/red").iterdir():
        truncate(path)
    refused(lambda: load(own, tmp_path), "00.jpg", "02.jpg", "and 7 more")


@pytest.mark.parametrize("end", [":7", ":0"])
def test_tiny_sizes_are_refused(shapes, tmp_path, end):
    refused(lambda: load(shapes, tmp_path, end), "at least 8")


@pytest.mark.parametrize("place", ["", "nowhere", "nowhere:64"])
def test_no_folder(tmp_path, place):
    refused(lambda: data.load(f"folder:{place}", tmp_path), "there is no folder", "folder:PATH")


def test_the_command_line_says_it_in_one_line(capsys, own):
    truncate(own / "val" / "red" / "01.jpg")
    argv = ["--experiment=lenet", f"--config.dataset=folder:{own}:28"]
    assert main(experiments, argv) == 2
    captured = capsys.readouterr().err.splitlines()
    assert "checking 39 images" in captured[0]
    assert captured[1].startswith(f"error: folder:{own}:28: {own / 'val' / 'red' / '01.jpg'}: ")
    assert len(captured) == 2


def test_a_file_that_goes_away_is_named(own, tmp_path):
    inputs = load(own, tmp_path).splits["test"]["inputs"]
    inputs.paths[2].unlink()
    refused(lambda: np.asarray(inputs), inputs.paths[2], "no such file")


def test_reduced_jpegs_are_nearly_the_same(tmp_path):
    """The rule of decoding.reduce; smooth pictures, as photographs are."""
    random = np.random.RandomState(0)
    coarse = Image.fromarray(random.randint(0, 256, (30, 40, 3)).astype(np.uint8))
    coarse.resize((640, 480), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=95)
    for size, factor in ((14, 8), (28, 4), (56, 2), (100, 2), (224, 1)):
        assert decoding.reduce(Image.open(tmp_path / "a.jpg"), 480, round(size * 8 / 7)) == factor
        seen = image_files.views.centre(Image.open(tmp_path / "a.jpg"), (size, size, 3))
        difference = np.abs(
            seen.astype(int) - torchvisions(tmp_path / "a.jpg", size, round(size * 8 / 7))
        )
        assert difference.mean() < 0.6
        assert difference.max() == 0 or factor > 1


def test_orientation_is_that_of_the_pixels(tmp_path):
    """As torchvision's ImageFolder, which does not look at EXIF either."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image_folders.picture((200, 30, 30)).save(tmp_path / "a.jpg", exif=exif)
    with decoding.opened(tmp_path / "a.jpg") as image:
        assert image.getexif()[0x0112] == 6
        seen = image_files.views.centre(image, (21, 21, 3))
    assert np.array_equal(seen, torchvisions(tmp_path / "a.jpg", 21, 24))


def test_ants_and_bees(real_data, tmp_path):
    found = data.load(f"folder:{real_data / 'hymenoptera_data'}", tmp_path)
    assert found.classes == ("ants", "bees")
    sizes = {split: len(part["labels"]) for split, part in found.splits.items()}
    assert sizes == {"train": 220, "validation": 24, "test": 153}
    assert found.provenance["skipped"] == ["train/ants/imageNotFound.gif"]
    part = found.splits["test"]["inputs"][::20]
    for path, image in zip(part.paths, np.asarray(part), strict=True):
        assert np.array_equal(image, torchvisions(path, 224, 256)), path
