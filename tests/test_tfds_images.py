"""Any prepared set of TFDS; what is imported for it."""

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
from tests.data_files import config_of, refused, small_mnist

ROOT = Path(__file__).parents[1]


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
