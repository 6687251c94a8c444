"""Training on inputs that are brought to the devices batch by batch: the same, in little memory."""

import dataclasses
import os
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from cnnjax import data
from cnnjax.errors import UserError
from cnnjax.training import Devices, Interrupted, Plan, evaluator, feed, fit
from cnnjax.training.checkpoints import Checkpoints
from tests import image_folders
from tests.test_loop import Recorder, same
from tests.training_task import Hparams, small_splits, small_task

pytestmark = pytest.mark.usefixtures("kept_programs")

PLAN = Plan(epochs=3, batch_size=16, seed=3)
HPARAMS = Hparams()


class Later:
    """Stands for an array, and counts what it has made of it."""

    def __init__(self, array, made=None):
        self._array, self.made = array, [] if made is None else made
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        return Later(self._array[rows], self.made)

    def __array__(self, dtype=None, copy=None):
        self.made.append(len(self._array))
        return self._array


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(feed, "KEPT_BYTES", 1000)


def later(splits):
    return {
        name: {"inputs": Later(part["inputs"]), "labels": part["labels"]}
        for name, part in splits.items()
    }


def run(splits, task=None, plan=PLAN, devices=None, **more):
    return fit(
        task or small_task(), splits, HPARAMS, plan, devices=devices or Devices("single"), **more
    )


def test_streamed_is_the_same_to_the_bit(little_memory):
    splits, recorder, streamed = small_splits(), Recorder(), Recorder()
    expected = run(splits, observer=recorder)
    lazy = later(splits)
    found = run(lazy, observer=streamed)
    assert same(found.params, expected.params)
    assert streamed.rows == recorder.rows
    steps = lazy["train"]["inputs"].made
    assert steps == [1, *[16] * 18]  # its shape; three epochs of six batches
    assert lazy["validation"]["inputs"].made == [30] * 3


def test_what_is_small_is_brought_once():
    splits = small_splits()
    lazy = later(splits)
    assert same(run(lazy).params, run(splits).params)
    assert lazy["train"]["inputs"].made == [90, 1]


@pytest.mark.parametrize(
    ("way", "one_program"),
    [("sharded", True), ("pmap", False)],
)
def test_in_every_way(little_memory, way, one_program):
    splits = small_splits()
    whole = Devices(way, one_program=one_program)
    expected = run(splits, devices=whole)
    found = run(later(splits), devices=Devices(way, one_program=one_program))
    for a, b in zip(*map(jax.tree.leaves, (found.params, expected.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_no_more_than_a_few_batches_are_made_ahead(little_memory):
    """A step that takes long lets the others wait."""
    splits = later(small_splits(160))
    made, seen = splits["train"]["inputs"].made, []

    class Slow(Recorder):
        def should_stop(self):
            time.sleep(0.05)
            seen.append(len(made) - 1)
            return False

    plan = dataclasses.replace(PLAN, epochs=1, batch_size=2)  # 80 steps, a look every 16
    run(splits, plan=plan, observer=Slow())
    done = [0, 16, 32, 48, 64]
    assert len(seen) == len(done)
    for steps, count in zip(done, seen, strict=True):
        assert count <= steps + feed._AHEAD + 1
    assert made == [1, *[2] * 80]


def test_each_epoch_has_its_views():
    splits, calls = small_splits(), []

    def views(inputs, seed, epoch):
        calls.append((seed, epoch))
        return inputs.astype(np.float32) * 0 + epoch + seed / 10

    found = []
    task = dataclasses.replace(
        small_task(),
        views=views,
        prepare=lambda inputs: inputs.astype("float32"),
        augment=lambda keys, inputs, hparams: record(inputs),
    )

    def record(inputs):
        jax.debug.callback(lambda low, high: found.append((low, high)), inputs.min(), inputs.max())
        return inputs

    run(splits, task)
    assert calls == [(3, 0), (3, 1), (3, 2)]
    lows = [float(low) for low, high in found if low == high]
    np.testing.assert_allclose(sorted(lows), np.repeat([0.3, 1.3, 2.3], 6), rtol=1e-6)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = image_folders.write(tmp_path_factory.mktemp("shapes"), {"train": 12, "val": 5})
    return data.load(f"folder:{folder}:8", tmp_path_factory.mktemp("data"))


@pytest.fixture
def crops():
    return dataclasses.replace(small_task(), views=data.random_crops)


def test_images_in_files_are_learned_from(shapes):
    arrays = {
        name: {"inputs": np.asarray(part["inputs"]), "labels": part["labels"]}
        for name, part in shapes.splits.items()
    }
    plan = dataclasses.replace(PLAN, epochs=30, batch_size=8)
    found, expected = (run(splits, plan=plan) for splits in (shapes.splits, arrays))
    assert same(found.params, expected.params)
    _, means = evaluator(small_task(), Devices("single"))(found.variables, HPARAMS, shapes.splits)[
        "test"
    ]
    assert means["accuracy"] > 0.9  # the colours tell


def test_random_crops_are_resumed_exactly(shapes, crops, tmp_path):
    plan = dataclasses.replace(PLAN, batch_size=1)  # 33 steps an epoch: a stop inside one
    expected = run(shapes.splits, crops, plan)
    assert not same(expected.params, run(shapes.splits, plan=plan).params)
    saved = lambda: Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(Interrupted) as stop:
        run(shapes.splits, crops, plan, checkpoints=saved(), observer=Recorder(4))
    assert stop.value.step % 33
    resumed = run(shapes.splits, crops, plan, checkpoints=saved())
    assert same(resumed.params, expected.params)


def test_streamed_examples_calibrate(little_memory):
    splits, seen = small_splits(), []

    def calibrate(key, params, opt_state, examples, hparams):
        seen.append({name: array.shape for name, array in examples.items()})
        return opt_state

    task = dataclasses.replace(small_task(), calibrate=calibrate, calibration_examples=20)
    lazy = later(splits)
    run(lazy, task)
    assert seen[0] == {"inputs": (20, 8, 8, 1), "labels": (20,)}
    assert lazy["train"]["inputs"].made.count(20) == 3


def test_an_error_while_a_batch_is_made_ends_training(shapes, crops, tmp_path):
    folder = image_folders.write(tmp_path / "own", {"train": 12, "val": 5})
    own = data.load(f"folder:{folder}:8", tmp_path)
    own.splits["train"]["inputs"].paths[5].write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read as an image"):
        run(own.splits, crops)


def test_memory_stays_bounded(tmp_path):
    """Of images that are 120 MB when they are decoded, 8 MB are kept."""
    folder = image_folders.write(tmp_path / "images", {"": 1})
    for original in list(folder.rglob("*.jpg")):
        for number in range(1, 267):
            os.link(original, original.with_name(f"{number:03}.jpg"))

    def growth(kept):
        arguments = [folder, tmp_path / "data", kept]
        child = subprocess.run(
            [sys.executable, "-m", "tests.feed_child", *map(str, arguments)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        _, decoded, _, grown = child.stdout.split()
        return float(decoded), float(grown)

    decoded, streamed = growth(8 << 20)
    _, whole = growth(1 << 30)
    assert decoded > 115
    assert whole > 0.7 * decoded  # the measure sees it
    assert streamed < 60  # those, and the batches on their way
