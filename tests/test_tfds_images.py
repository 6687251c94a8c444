"""Any prepared set of TFDS; what is imported for it."""

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cnnjax import data
from cnnjax.data.dataset import checksum
from cnnjax.errors import UserError
from tests.data_files import config_of, in_order, nothing_prepared, refused, small_mnist

ROOT = Path(__file__).parents[1]


IMAGE = tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8)
IMAGES = {
    "unequal": tfds.features.Tensor(shape=(None, 4, 1), dtype=np.uint8),
    "floats": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.float32),
    "flat": tfds.features.Tensor(shape=(4, 4), dtype=np.uint8),
    "text": tfds.features.Text(),
    "nest": tfds.features.FeaturesDict({"left": IMAGE, "right": IMAGE}),
}
KEYS = {
    "no_keys": None,
    "three_keys": ("image", "label", "label"),
    "two_images": ({"image": "image", "again": "image"}, "label"),
}
SPLITS = {
    "only_train": {"train": 100},
    "no_train": {"validation": 20, "test": 30},
    "few": {"train": 3, "test": 3},
}


class TinyImages(tfds.core.GeneratorBasedBuilder):
    """Ten classes of 4x4 images; the configs lack something each."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=name)
        for name in ("all", "no_label", "hidden", *IMAGES, *KEYS, *SPLITS)
    ]

    def _info(self):
        config = self.builder_config.name
        label = tfds.features.ClassLabel(num_classes=10)
        if config == "no_label":
            label = tfds.features.Scalar(np.int64)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {"image": IMAGES.get(config, IMAGE), "label": label}
            ),
            supervised_keys=KEYS.get(config, ("image", "label")),
        )

    def _split_generators(self, dl_manager):
        splits = SPLITS.get(self.builder_config.name, {"train": 100, "validation": 20, "test": 30})
        return {name: self._generate_examples(name, count) for name, count in splits.items()}

    def _generate_examples(self, split, count):
        config = self.builder_config.name
        for row in range(count):
            side = 4 + row % 2 * (config == "unequal")
            image = np.full((side, 4, 1), row, np.uint8)
            hidden = config == "hidden" and split == "test"
            yield row, {"image": image, "label": -1 if hidden else row % 10}


class ManualImages(TinyImages):
    """As ``TinyImages``, from a file that the user must have."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put here what
    lies at example.org.
    """

    def _split_generators(self, dl_manager):
        assert (dl_manager.manual_dir / "tiny").exists(), "there is no tiny"
        return super()._split_generators(dl_manager)


def load_tiny(config, folder):
    return data.load(f"tfds:tiny_images/{config}", folder)


def test_splits_that_tfds_has_are_taken_as_published(tmp_path):
    dataset = load_tiny("all", tmp_path)
    counts = {split: len(examples["labels"]) for split, examples in dataset.splits.items()}
    assert counts == {"train": 100, "validation": 20, "test": 30}
    assert dataset.provenance["split"] == "as published"
    assert dataset.spec == data.Spec((4, 4, 1), tuple("0123456789"), 100)
    assert dataset.provenance["sha256"] == checksum(*in_order(dataset))
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
        ("hidden", ["test split has hidden labels", "-1"]),
        ("few", ["validation split is empty", "6 examples (3 train, 0 validation, 3 test)"]),
    ],
)
def test_examples_that_cannot_be_learned_are_refused(tmp_path, config, words):
    refused(lambda: load_tiny(config, tmp_path), f"tfds:tiny_images/{config}", *words)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("no_label", ["no image and class label", "('image', 'label')", "features image, label"]),
        ("no_keys", ["no image and class label", "None"]),
        ("three_keys", ["no image and class label", "('image', 'label', 'label')"]),
        ("two_images", ["no image and class label", "'again': 'image'"]),
        ("floats", ["'image' is Tensor(shape=(4, 4, 1), dtype=float32)", "uint8[H, W, C]"]),
        ("flat", ["'image' is Tensor(shape=(4, 4), dtype=uint8)", "uint8[H, W, C]"]),
        ("text", ["'image' is Text(", "uint8[H, W, C]"]),
        ("nest", ["'image' is FeaturesDict(", "uint8[H, W, C]"]),
    ],
)
def test_features_that_cannot_be_learned_are_refused_unprepared(tmp_path, config, words):
    refused(lambda: load_tiny(config, tmp_path), f"tfds:tiny_images/{config}", *words)
    assert nothing_prepared(tmp_path)


def test_a_set_with_files_of_the_users_says_so(tmp_path):
    load = lambda files=None: data.load("tfds:manual_images/all", tmp_path / "data", files)
    instructions = "Put here what lies at example.org."
    refused(load, "tfds:manual_images/all", "manual_dir (now absent)", instructions)
    refused(lambda: load(tmp_path), f"manual_dir (now {tmp_path})", instructions)
    assert nothing_prepared(tmp_path)
    (tmp_path / "tiny").touch()
    assert load(tmp_path).spec.examples == 100


def truncate(folder):
    (file,) = folder.glob("*train.array_record*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def delete(folder):
    (file,) = folder.glob("*train.array_record*")
    file.unlink()


def pretend_tfrecord(folder):
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (truncate, ["train split cannot be read", "delete this folder"]),
        (delete, ["train split cannot be read", "delete this folder"]),
        (pretend_tfrecord, ["prepared as tfrecord", "TensorFlow", "array_record"]),
    ],
)
def test_prepared_files_that_cannot_be_read_are_refused(tmp_path, damage, words):
    folder = Path(load_tiny("all", tmp_path).provenance["prepared"])
    damage(folder)
    refused(lambda: load_tiny("all", tmp_path), folder, *words)


def test_loading_is_quiet_and_leaves_logging_as_it_was(tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # as where nobody has configured any
    absl = logging.getLogger("absl")
    monkeypatch.setattr(absl, "handlers", [caplog.handler])
    level = absl.level
    for config in ("all", "few"):
        with contextlib.suppress(UserError):
            load_tiny(config, tmp_path)
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.err.splitlines()] == ["preparing", "preparing"]
    assert (output.out, caplog.records) == ("", [])
    assert (absl.level, logging.root.handlers) == (level, [])
    absl.warning("heard")
    assert caplog.messages == ["heard"]


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
        ("tfds:no_such_namespace:x", ["no_such_namespace not found"]),
        ("tfds:coco", ["without TensorFlow"]),
        ("tfds:imdb_reviews", ["'text' is Text("]),
        ("tfds:so2sat", ["cannot reach"]),
    ],
)
def test_a_tfds_set_that_cannot_be_had_is_refused(tmp_path, name, words):
    refused(lambda: data.load(name, tmp_path), name, *words)
    assert list(tmp_path.iterdir()) == []


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
