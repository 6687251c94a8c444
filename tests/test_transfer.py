"""The experiment of transfer: what is trained, from which weights, on what; and mistakes."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

import experiments
from cnnjax import data
from cnnjax.command import main
from cnnjax.config import to_dict
from cnnjax.data import Spec
from cnnjax.errors import UserError
from cnnjax.experiment.run_directory import RunDirectory
from cnnjax.training import Plan, TrainState, fit, train_step
from cnnjax.transfer import pretraining, views
from cnnjax.transfer.backbones import BACKBONES
from cnnjax.transfer.freezing import FROZEN
from cnnjax.transfer.strategies import start_epochs
from experiments import transfer
from experiments.transfer import Config
from tests import image_folders
from tests.mistakes import refused
from tests.training_task import traced
from tests.transfer_task import (
    C1,
    C3,
    HEAD,
    SINGLE,
    SPEC,
    config_of,
    moved,
    params_of,
    precomputed,
    task_of,
)

LABELS = np.random.default_rng(0).integers(0, 5, 400).astype(np.int32)
SPLITS = {"train": np.arange(300), "validation": np.arange(300, 340), "test": np.arange(340, 400)}
pytestmark = pytest.mark.usefixtures("kept_programs")


# --- what is trained --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"strategy": "linear"}, HEAD),
        ({"strategy": "partial"}, HEAD | C3),
        ({"strategy": "partial", "unfreeze_from": "C1"}, HEAD | C3 | C1),
        ({"strategy": "finetune"}, HEAD | C3 | C1),
        ({"strategy": "finetune", "features": "S2"}, HEAD | C1),
        ({"strategy": "gradual", "hparams__pace": 1.0}, HEAD),
        ({"strategy": "scratch"}, HEAD | C3 | C1),
    ],
)
def test_only_what_is_trained_is_updated(lenet, changes, expected):
    """With weight decay, and gradients everywhere."""
    config = config_of(lenet, **changes)
    task = task_of(config)
    params = params_of(task)

    @jax.jit
    def updated(params, hparams):
        rule = task.optimizer(hparams)
        gradients = jax.tree.map(jnp.ones_like, params)
        updates, _ = rule.update(gradients, rule.init(params), params)
        return jax.tree.map(jnp.add, params, updates)

    assert moved(params, updated(params, traced(config.hparams))) == expected


def test_frozen_parameters_stay_as_they_were_in_the_file(lenet, digits):
    """To the bit, through a training; those that are trained do not, and the file decides."""
    config = config_of(lenet, strategy="partial")
    stored, task = load_file(lenet), task_of(config)
    splits = {"train": part(digits, 20), "validation": part(digits, 10)}
    params = fit(task, splits, config.hparams, Plan(2, 10, select="last"), devices=SINGLE()).params
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(params["backbone"]["C1"][name], stored[f"C1/{name}"])
        change = np.abs(params["backbone"]["C3"][name] - stored[f"C3/{name}"])
        assert 0 < change.max() < 0.1, "near what it started from"


def test_scratch_starts_from_nothing_else(lenet):
    assert task_of(config_of(lenet, strategy="scratch")).initial == {}


def part(digits, count):
    return {name: array[:count] for name, array in digits["train"].items()}


@pytest.mark.parametrize(
    "pace, expected",
    [(0.0, [0, 0, 0]), (0.5, [0, 2, 4]), (1.0, [0, 4, 8]), (0.25, [0, 1, 2])],
)
def test_start_of_every_stage(pace, expected):
    """Of 8 epochs, evenly up to ``pace`` of them: the head, then C3, then C1."""
    depths = {"head/kernel": 0, "C3": 1, "C1": 2}
    assert [int(start) for start in start_epochs(depths, 8, pace)] == expected


def test_gradual_by_epoch(lenet, digits):
    """Epochs of 2 steps; with pace 0.5 of 4 epochs C3 starts in the second, C1 in the third."""
    config = config_of(lenet, strategy="gradual", epochs=4)
    task = task_of(config)
    batch = part(digits, 10) | {"weights": np.ones(10, np.float32)}
    params = params_of(task)
    state = TrainState(
        np.int32(0), np.uint32(0), params, task.optimizer(traced(config.hparams)).init(params)
    )
    step = jax.jit(functools.partial(train_step, task))
    found = []
    for _ in range(4):
        before = state.params
        for _ in range(2):  # 20 training images in batches of 10
            state, _ = step(state, batch, traced(config.hparams))
        found.append(moved(before, state.params))
    assert found == [HEAD, HEAD | C3, HEAD | C3 | C1, HEAD | C3 | C1]


def test_rates_below_the_head(lenet):
    """One step of Adam is the rate in size: halved for C3, and again for C1."""
    config = config_of(lenet, hparams__learning_rate=0.1, hparams__weight_decay=0.0)
    task, hparams = task_of(config), traced(config.hparams)
    params = params_of(task)
    gradients = jax.tree.map(np.ones_like, params)

    @jax.jit
    def updates_of(params, hparams):
        rule = task.optimizer(hparams)
        return rule.update(gradients, rule.init(params), params)[0]

    updates = flatten_dict(updates_of(params, hparams), sep="/")
    for path, size in (("head/bias", 0.1), ("backbone/C3/bias", 0.05), ("backbone/C1/bias", 0.025)):
        np.testing.assert_allclose(updates[path], -size, rtol=1e-5)


def test_statistics_of_batch_normalisation_are_never_trained():
    spec = dataclasses.replace(SPEC, shape=(8, 8, 3))
    for strategy in ("scratch", "finetune", "gradual", "partial"):
        config = Config(backbone="resnet20", strategy=strategy, weights=transfer.RANDOM)
        _, _, depths = transfer._parts(config, spec)
        assert {path.split("/")[-1] for path in depths} == {"kernel", "scale", "bias"}
        assert depths["backbone/layer3.0/bn1/scale"] == 1
    # A norm of a frozen stage stays whole.
    assert depths["backbone/layer2.0/bn1/scale"] is depths["backbone/bn1/bias"] is FROZEN


def test_what_is_trained_is_said(lenet):
    dataset = data.load("digits:56789")
    (line,) = transfer.remarks(config_of(lenet, strategy="partial"), dataset)
    # 192 x 5 + 5 and 5 x 5 x 4 x 12 + 12; 5 x 5 x 4 + 4.
    assert line == "partial: trained head, C3 (2,177 parameters); frozen C1 (104 parameters)"


# --- weights ----------------------------------------------------------------------------------


def test_lenets_start_from_what_they_learned_elsewhere(tmp_path, monkeypatch):
    """The default weights: the same network, learned on other digits."""
    asked = []

    def fake(name, task, dataset, hparams, plan, folder):
        asked.append((name, dataset.name, dataset.classes, folder))
        shape = jax.eval_shape(task.prepare, dataset.splits["train"]["inputs"][:1])
        params = jax.eval_shape(task.model.init, jax.random.key(0), shape)["params"]
        return {p: np.full(s.shape, 2, s.dtype) for p, s in flatten_dict(params, sep="/").items()}

    monkeypatch.setattr(pretraining, "pretrained", fake)
    pretraining.lenet_of_digits.cache_clear()
    found = transfer.initial(Config(features="S2"), SPEC, tmp_path)
    pretraining.lenet_of_digits.cache_clear()
    assert asked == [("lenet1", "digits:01234", tuple("01234"), tmp_path)]
    assert found.keys() == C1 and all((array == 2).all() for array in found.values())
    assert transfer.initial(Config(strategy="scratch"), SPEC, tmp_path) == {}


def test_random_weights_are_the_same_every_time(tmp_path):
    first, again = (transfer.initial(Config(weights="random"), SPEC, tmp_path) for _ in range(2))
    assert first.keys() == C1 | C3
    assert all(np.array_equal(first[path], again[path]) for path in first)
    assert np.std(first["backbone/C3/kernel"]) > 0


def test_a_model_of_this_experiment_can_be_transferred_again(lenet, tmp_path):
    flat = flatten_dict(params_of(task_of(config_of(lenet))), sep="/")
    save_file(flat, tmp_path / "m.safetensors")
    found = BACKBONES["lenet1"].read(tmp_path / "m.safetensors", (8, 8, 1), "S4")
    assert found.keys() == C1 | C3
    np.testing.assert_array_equal(found["backbone/C3/kernel"], load_file(lenet)["C3/kernel"])


# --- data -------------------------------------------------------------------------------------


def test_shots_are_of_every_class_drawn_by_the_seed_and_nested():
    drawn = {
        (shots, seed): transfer.rows(Config(shots=shots, seed=seed), LABELS, SPLITS)["train"]
        for shots in (5, 20)
        for seed in (0, 1)
    }
    for (shots, _), found in drawn.items():
        assert np.bincount(LABELS[found]).tolist() == [shots] * 5
        assert found.max() < 300 and len(np.unique(found)) == len(found)
    assert set(drawn[5, 0]) <= set(drawn[20, 0])
    assert len(np.intersect1d(drawn[5, 0], drawn[5, 1])) < 10
    again = transfer.rows(Config(shots=5, strategy="linear"), LABELS, SPLITS)
    np.testing.assert_array_equal(again["train"], drawn[5, 0])
    np.testing.assert_array_equal(again["test"], SPLITS["test"])
    assert transfer.rows(Config(shots=None), LABELS, SPLITS) is None


def test_digits_of_some_classes():
    some, everything = data.load("digits:73"), data.load("digits")
    assert some.classes == ("3", "7")
    for name, split in some.splits.items():
        labels = everything.splits[name]["labels"]
        chosen = (labels == 3) | (labels == 7)
        np.testing.assert_array_equal(split["inputs"], everything.splits[name]["inputs"][chosen])
        np.testing.assert_array_equal(split["labels"], labels[chosen] == 7)
    with pytest.raises(UserError, match="digits:5: behind the colon there must be two or more"):
        data.load("digits:5")


def test_pixels_of_another_task():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    identity = dataclasses.replace(BACKBONES["lenet1"], prepare=lambda images: images)
    seen = functools.partial(views.prepare, network=identity, images=image)
    assert np.asarray(seen("inverted"))[0, 0, 2, 0] == 253
    shuffled = np.asarray(seen("shuffled"))
    assert sorted(shuffled.ravel()) == list(range(64)) and not np.array_equal(shuffled, image)
    np.testing.assert_array_equal(shuffled, seen("shuffled"))


def test_colours_are_normalised_as_the_weights_want_them():
    """(level / 255 - mean) / deviation of ImageNet; grey in all three channels."""
    images = np.full((1, 2, 2, 3), 255, np.uint8)
    found = np.asarray(BACKBONES["resnet18"].prepare(images))[0, 0, 0]
    np.testing.assert_allclose(
        found, [(1 - 0.485) / 0.229, 0.544 / 0.224, 0.594 / 0.225], rtol=1e-6
    )
    grey = np.asarray(BACKBONES["squeezenet"].prepare(images[..., :1]))
    np.testing.assert_allclose(grey[0, 1, 1], found, rtol=1e-6)


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, shape, message",
    [
        (
            {"features": "S5"},
            (8, 8, 1),
            "config.features=S5: the network has no such stage; it has C1, S2, C3, S4$",
        ),
        (
            {"strategy": "partial", "unfreeze_from": "S2"},
            (8, 8, 1),
            "unfreeze_from=S2: .*it has C1, C3$",
        ),
        ({"backbone": "resnet20"}, (8, 8, 3), "resnet20 needs weights.*--config.weights=FILE"),
        ({"backbone": "resnet20"}, (8, 8, 4), "three colours; those of digits:56789 have 4"),
        ({}, (32, 32, 1), "lenet1 takes images of up to 28x28; those of digits:56789 are 32x32"),
        ({"backbone": "squeezenet", "weights": "x"}, (8, 8, 3), "at least 17x17"),
    ],
)
def test_mistakes(changes, shape, message):
    with pytest.raises(UserError, match=message):
        transfer.task(Config(**changes), dataclasses.replace(SPEC, shape=shape))


def test_a_stage_without_effect(capsys):
    message = refused(capsys, "--experiment=transfer", "--config.unfreeze_from=C1")
    assert "config.unfreeze_from has no effect with config.strategy=finetune" in message
    assert "where that is partial" in message


def test_more_shots_than_images(capsys, tmp_path):
    flags = ["--experiment=transfer", f"--workdir={tmp_path}", "--config.shots=200"]
    message = refused(capsys, *flags)
    assert "config.shots=200: of class 0 (counted from 0) digits:56789 has only 1" in message


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda a: a.pop("C3/bias"), "it lacks 1 of the network's: C3/bias"),
        (lambda a: a.update({"F9/kernel": np.ones(1)}), "1 of its names the network has not: F9"),
        (lambda a: a.update({"C1/bias": np.ones(7, np.float32)}), r"C1/bias is \(7,\)"),
    ],
)
def test_weights_that_do_not_fit(lenet, tmp_path, change, words):
    arrays = load_file(lenet)
    change(arrays)
    save_file(arrays, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=words):
        transfer.initial(config_of(tmp_path / "other.safetensors"), SPEC, tmp_path)


def test_what_lies_above_the_stage_need_not_fit(lenet, tmp_path):
    arrays = load_file(lenet)
    del arrays["C3/bias"]
    save_file(arrays, tmp_path / "other.safetensors")
    found = transfer.initial(
        config_of(tmp_path / "other.safetensors", features="S2"), SPEC, tmp_path
    )
    assert found.keys() == C1


# --- command line and report ------------------------------------------------------------------


@pytest.mark.parametrize("name", transfer.SWEEPS)
def test_every_named_sweep_can_be_planned(name, tmp_path, capsys):
    flags = ["--experiment=transfer", f"--workdir={tmp_path}", f"--sweep={name}", "--dry_run"]
    assert main(experiments, flags) == 0
    assert f"{len(transfer.SWEEPS[name])} trials" in capsys.readouterr().out


def test_a_run_on_features_leaves_a_whole_model(lenet, tmp_path, capsys):
    """What it measured on features, evaluation measures again on images."""
    base = ["--experiment=transfer", f"--workdir={tmp_path / 'run'}", f"--data_dir={tmp_path}"]
    flags = ["--config.strategy=linear", "--config.epochs=2", f"--config.weights={lenet}"]
    assert main(experiments, [*base, *flags]) == 0
    assert "frozen C3, C1 (1,316 parameters)" in capsys.readouterr().out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["parameters"] == 104 + 1_212 + 965
    assert result["train"]["count"] == 25 and len(result["initial"]["sha256"]) == 64
    model = load_file(tmp_path / "run" / "model.safetensors")
    np.testing.assert_array_equal(model["backbone/C1/kernel"], load_file(lenet)["C1/kernel"])
    assert main(experiments, [*base, "--mode=evaluate"]) == 0
    assert f"accuracy {result['test']['accuracy']:.4f}" in capsys.readouterr().out


def test_a_run_from_other_weights_is_not_continued(tmp_path):
    run, config = RunDirectory(tmp_path / "run"), Config()

    def open_with(digest):
        provenance = {"data": {"sha256": "1" * 64}, "initial": {"sha256": digest * 64}}
        with run.open("transfer", config, [], provenance, print):
            pass

    open_with("a")
    open_with("a")
    with pytest.raises(UserError, match="holds a run from other initial weights"):
        open_with("b")


def row(strategy, seed, accuracy, shots=5, pixels="plain", **changes):
    config = Config(strategy=strategy, seed=seed, shots=shots, pixels=pixels)
    test = None if accuracy is None else {"accuracy": accuracy}
    return {
        "changes": {"strategy": strategy, "shots": shots, "seed": seed} | changes,
        "config": to_dict(config),
        "status": "diverged" if accuracy is None else "finished",
        "test": test,
        "train": {"count": 5 * (shots or 126)},
    }


def test_report_of_fake_rows(tmp_path):
    trials = [row("scratch", 0, 0.80), row("scratch", 1, 0.82), row("scratch", 2, None)]
    trials += [row("scratch", seed, 0.9, shots=None) for seed in range(2)]
    trials += [row("linear", seed, 0.90 + seed / 50) for seed in range(2)]
    files = transfer.report(trials, tmp_path)
    assert [file.name for file in files] == ["transfer.md", "transfer.png"]
    lines = files[0].read_text().splitlines()
    assert lines[0] == "# lenet1 from digits:01234 to digits:56789"
    assert lines[2] == "| setting | 5 a class | all | against scratch with 5 a class, points |"
    # Student's interval of 80 and 82: 81 ± 12.7.
    assert lines[4] == "| scratch | 81.0 (68.3 – 93.7) | 90.0 (90.0 – 90.0) | – |"
    assert lines[5].startswith("| linear | 91.0 (78.3 – 103.7) | – | +10.0 (p ")
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_report_of_several_kinds_of_images_and_of_one_number(tmp_path):
    assert transfer.report([], tmp_path) == []
    of_two = [row("linear", 0, 0.8, weights="", epochs=60), row("linear", 0, 0.7, weights="random")]
    of_two[1]["changes"]["epochs"] = 60
    (path,) = transfer.report(of_two, tmp_path)
    lines = path.read_text().splitlines()
    assert lines[4:6] == ["| as configured | 80.0 |", "| weights=random | 70.0 |"]
    trials = [row("linear", 0, 0.8, shots, p) for p in ("plain", "inverted") for shots in (5, 9)]
    table, picture = transfer.report(trials, tmp_path)
    assert "| inverted | linear | 80.0 | 80.0 |" in table.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_photographs_in_files_are_cropped_at_random(tmp_path):
    dataset = data.load(f"folder:{image_folders.write(tmp_path, {'': 4})}:16")
    config = config_of(transfer.RANDOM, dataset=dataset.name, backbone="resnet20", distortions=True)
    made = task_of(config, dataset.spec)
    images = dataset.splits["train"]["inputs"]
    first, second = (np.asarray(made.views(images, config.seed, epoch)) for epoch in (0, 1))
    assert first.shape == np.asarray(images).shape and not np.array_equal(first, second)
    assert task_of(dataclasses.replace(config, distortions=False), dataset.spec).views is None


def test_a_linear_classifier_learns_from_stored_crops(tmp_path):
    dataset = data.load(f"folder:{image_folders.write(tmp_path, {'': 4})}:16")
    changes = {"dataset": dataset.name, "backbone": "resnet20", "strategy": "linear"}
    config = config_of(transfer.RANDOM, **changes, distortions=True, views=3)
    task = task_of(config, dataset.spec)
    once, learned = precomputed(task, dataset.splits, tmp_path / "data")
    images = dataset.splits["train"]["inputs"]
    features = jax.jit(functools.partial(task.frozen.features, dict(task.initial)))
    seen = [np.asarray(view) for view in (images, *(images.random_crops(0, i) for i in (1, 2)))]
    for view, expected in enumerate(seen):
        found = learned["train"]["inputs"][:, view : view + 1]
        np.testing.assert_allclose(found, features(expected), rtol=1e-5, atol=1e-5)
    assert {name: split["inputs"].shape[1] for name, split in learned.items()} == {
        "train": 3, "validation": 1, "test": 1
    }  # fmt: skip
    assert "features of 3 views of an image" in transfer.remarks(config, dataset)[0]
    assert once.task.augment is not None
    plain = task_of(dataclasses.replace(config, distortions=False), dataset.spec)
    assert plain.frozen.stored_views == 1 and plain.frozen.head.augment is None


# --- real weights -----------------------------------------------------------------------------


def cifar(folder):
    records = np.fromfile(folder / "cifar10" / "test_batch_first1000.bin", np.uint8)
    records = records.reshape(1000, 3073)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int32)


def test_a_linear_probe_of_a_real_network(real_data, tmp_path):
    """ResNet-20 of CIFAR-10 knows these classes: 200 images teach a new classifier them again."""
    images, labels = cifar(real_data)
    parts = {"train": slice(200), "validation": slice(200, 250), "test": slice(250, 450)}
    splits = {name: {"inputs": images[p], "labels": labels[p]} for name, p in parts.items()}
    spec = Spec((32, 32, 3), tuple("0123456789"), 200)
    weights = real_data / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th"
    config = config_of(weights, backbone="resnet20", strategy="linear", epochs=20)
    task = task_of(config, spec)
    once, learned = precomputed(task, splits, tmp_path)
    plan = transfer.plan(config)
    fitted = fit(once.task, learned, config.hparams, plan, devices=SINGLE())
    logits = once.task.logits(fitted.variables, learned["test"]["inputs"])
    assert np.mean(np.argmax(logits, -1) == splits["test"]["labels"]) > 0.85


def test_a_network_with_a_part_of_its_weights(real_data):
    """Of this ResNet-18 four convolutions of layer4 are missing: up to layer3 it is whole."""
    folder = real_data / "weights" / "resnet18_imagenet_partial"
    resnet = BACKBONES["resnet18"]
    found = resnet.read(folder, (64, 64, 3), "layer3")
    assert len(found) == 75 and "backbone/layer3.1/bn2/var" in found
    with pytest.raises(UserError, match=r"it lacks .* of the network's: layer4"):
        resnet.read(folder, (64, 64, 3), "pooled")
