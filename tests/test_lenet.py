"""The lenet experiment: its loss, the optimiser of 1998, distortions, and its table."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from cnnjax.command import main
from cnnjax.config import override, to_dict
from cnnjax.data import Spec
from cnnjax.errors import UserError
from cnnjax.models.bitmaps import DIGITS
from cnnjax.training import calibrate, init_state
from cnnjax.training.curvature import gauss_newton_diagonal
from experiments import lenet
from experiments.lenet import Config, Hparams

MNIST = Spec((28, 28, 1), tuple(map(str, range(10))), 1600)
HPARAMS = jax.tree.map(jnp.float32, Hparams(learning_rate=0.0005))
PUBLISHED = Config(model="lenet5", optimizer="levenberg_marquardt", batch_size=16)


def some_digits(count):
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (count, 28, 28, 1)).astype(np.uint8)
    return {"inputs": jnp.asarray(images), "labels": jnp.asarray(random.randint(0, 10, count))}


# --- data -------------------------------------------------------------------------------------


def test_validation_images_are_drawn_from_all_that_are_not_for_testing():
    labels = np.random.RandomState(0).randint(0, 10, 100)
    splits = dict(
        zip(("train", "validation", "test"), np.split(np.arange(100), [60, 80]), strict=True)
    )
    assert lenet.rows(Config(), labels, splits) is None
    first, second = (lenet.rows(Config(validation=8, seed=seed), labels, splits) for seed in (0, 1))
    assert [len(first[name]) for name in ("train", "validation", "test")] == [72, 8, 20]
    everything = np.sort(np.concatenate(list(first.values())))
    np.testing.assert_array_equal(everything, np.arange(100))
    np.testing.assert_array_equal(first["test"], splits["test"])
    assert not np.array_equal(first["validation"], second["validation"])
    folded = lenet.rows(Config(validation=8, fold=1), labels, splits)
    assert len(folded["test"]) == 10
    with pytest.raises(
        UserError, match=r"config.validation=80: leaves nothing to train on of the 80"
    ):
        lenet.rows(Config(validation=80), labels, splits)


# --- LeNet-5 as published ---------------------------------------------------------------------


def test_the_loss_by_hand():
    """y = (1, 3), d = 0, j = 2: 1 + log(e^-2 + e^-1 + e^-3)."""
    found = lenet.discriminative_distance(
        jnp.array([[-1.0, -3.0]]), jnp.array([0]), Hparams(rejection=2.0)
    )
    np.testing.assert_allclose(found, 1 + np.log(np.exp(-2) + np.exp(-1) + np.exp(-3)), rtol=1e-6)


def test_the_loss_is_convex_in_f6(x64):
    codes = tuple(map(tuple, DIGITS.reshape(10, -1).tolist()))
    of_f6 = lambda f6: lenet._of_f6(codes, f6[None], jnp.array([3]), Hparams())[0]
    hessian = jax.jit(jax.hessian(of_f6))
    near = DIGITS.reshape(10, -1)[3] + 0.3
    for f6 in (np.zeros(84), near, np.random.RandomState(0).randn(84)):
        values = np.linalg.eigvalsh(hessian(f6.astype(float)))
        assert values.min() > -1e-9 and values.max() > 0.1


def test_rates_are_those_of_the_paper():
    """5e-4 for two passes, 2e-4 for three, 1e-4 for three, 5e-5 for four, then 1e-5; times the 16
    gradients of a batch, over mu = 0.02 where nothing is curved."""
    optimizer = lenet.task(PUBLISHED, MNIST).optimizer(HPARAMS)
    gradient = {"w": jnp.ones(())}
    update = jax.jit(optimizer.update)
    state, rates = optimizer.init(gradient), []
    for _ in range(20):
        for step in range(100):
            updates, state = update(gradient, state)
            if step == 99:
                rates.append(-float(updates["w"]) * 0.02 / 16)
    expected = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    np.testing.assert_allclose(rates, expected, rtol=1e-4)


@pytest.mark.parametrize("model, name", [("lenet5", "F6"), ("linear", "logits")])
def test_curvature_is_measured_where_the_loss_is_convex(model, name):
    """Random signs have the exact diagonal as their mean: over some examples nearly so."""
    config = dataclasses.replace(PUBLISHED, model=model)
    task = lenet.task(config, MNIST)
    data = some_digits(16)
    state = init_state(task, 0, data["inputs"], HPARAMS)
    found = jax.jit(functools.partial(calibrate, task))(state, data, HPARAMS)
    outputs = lambda params, x: task.model.apply({"params": params}, task.prepare(x))[1][name]

    def losses(z, labels):
        if model == "linear":
            return task.loss(z, labels, HPARAMS)
        distances = jnp.square(z[:, None] - DIGITS.reshape(1, 10, 84)).sum(-1)
        return task.loss(-distances, labels, HPARAMS)

    exact = jax.jit(functools.partial(gauss_newton_diagonal, outputs, losses))
    expected = exact(state.params, data["inputs"], data["labels"])
    for measured, true in zip(
        jax.tree.leaves(found.opt_state[0].curvature), jax.tree.leaves(expected), strict=True
    ):
        assert (measured >= 0).all()
        np.testing.assert_allclose(measured.mean(), true.mean(), rtol=0.4)


def test_distortions_move_digits_and_leave_background():
    task = lenet.task(Config(model="lenet5", distortions=True), MNIST)
    images = task.prepare(some_digits(4)["inputs"])
    distorted = task.augment(jax.random.split(jax.random.key(0), 4), images, HPARAMS)
    assert distorted.shape == (4, 32, 32, 1)
    assert distorted.min() > -0.1001 and distorted.max() < 1.1751
    assert (np.abs(distorted - images).max((1, 2, 3)) > 0.1).all()
    amounts = ("shift", "scaling", "squeezing", "shearing", "rotation")
    still = override(Config(), {f"hparams.{name}": 0 for name in amounts}).hparams
    same = task.augment(jax.random.split(jax.random.key(0), 4), images, still)
    np.testing.assert_allclose(same, images, atol=1e-5)


# --- the table --------------------------------------------------------------------------------


def row(name, seed, accuracy):
    changes, _ = (lenet.TABLE | lenet.BEST)[name]
    return {
        "changes": changes | {"seed": seed},
        "config": to_dict(override(Config(), changes | {"seed": seed})),
        "status": "diverged" if accuracy is None else "finished",
        "test": None if accuracy is None else {"accuracy": accuracy},
    }


def test_table_of_fake_rows(tmp_path):
    trials = [row("linear", seed, 0.92 + seed / 100) for seed in range(3)]
    trials += [row("LeNet-5", 0, 0.99), row("LeNet-5", 1, None), row("modern LeNet", 0, 0.995)]
    files = lenet.report(trials, tmp_path)
    assert [file.name for file in files] == ["networks.md", "networks.png"]
    lines = files[0].read_text().splitlines()
    assert lines[4] == "| linear | 7,850 | 7,850 | 7.00 ± 1.00 | 4.52 – 9.48 | 3 | – | 12.00 |"
    assert lines[5].startswith("| 784-300-10 | 238,510 | 238,510 | – | – | 0 |")
    assert lines[8] == "| LeNet-5 | 340,908 | 60,000 | 1.00 | – | 1 | – | 0.95 |"
    assert lines[10].endswith("| 317,066 | 0.50 | – | 1 | – | – |")
    assert files[1].read_bytes().startswith(b"\x89PNG")
    (best,) = lenet.BEST
    files = lenet.report([*trials, row(best, 0, 0.996)], tmp_path)
    assert files[0].read_text().splitlines()[:11] == lines[:11]
    assert f"| {best} |" in files[0].read_text().splitlines()[11]


def test_no_table_of_another_sweep(tmp_path):
    other = row("linear", 0, 0.9) | {"changes": {"model": "linear", "epochs": 3, "seed": 0}}
    assert lenet.report([row("linear", 0, 0.9), other], tmp_path) == []
    assert lenet.report([], tmp_path) == []


def test_lenet5_as_published_learns_digits_by_the_command_line(tmp_path):
    flags = [f"--config.{path}={value}" for path, value in
             (lenet.TABLE["LeNet-5, distortions"][0] | {"epochs": 2}).items()]  # fmt: skip
    assert main(experiments, ["--experiment=lenet", f"--workdir={tmp_path}", *flags]) == 0
    assert json.loads((tmp_path / "result.json").read_text())["test"]["accuracy"] > 0.6
