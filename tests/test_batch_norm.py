"""Batch normalisation: the layer by hand; its state on devices, in checkpoints and in sweeps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.layers import BatchNorm, WholeBatch
from cnnjax.training import (
    Devices,
    Interrupted,
    Observer,
    Plan,
    Programs,
    fit,
    init_state,
    predict,
    train_step,
)
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.trials import fit_trials
from tests.child_process import rows_of_module
from tests.norm_task import Hparams, OurNet, PlainNet, task_of, traced
from tests.training_task import small_splits

pytestmark = pytest.mark.usefixtures("kept_programs")

NETS = {"ours": OurNet(), "flax": PlainNet()}
PLAN = Plan(epochs=3, batch_size=16, seed=3)
SINGLE = functools.partial(Devices, "single")


def same(a, b) -> bool:
    """Whether two trees are equal to the last bit."""
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(x, y), dict(a), dict(b)))


# --- the layer ----------------------------------------------------------------------------------


def normalise(x, batch=None, **attributes):
    """The output, and the running averages after it, of a new layer."""
    layer = BatchNorm(**attributes)
    variables = layer.init(jax.random.key(0), x)
    return layer.apply(variables, x, batch, mutable="batch_stats")


def test_a_batch_by_hand():
    """Mean 2 and biased variance 2/3 of (1, 2, 3); the average takes the unbiased one, 1."""
    x = jnp.array([[1.0], [2.0], [3.0]])
    y, changed = normalise(x, WholeBatch(jnp.ones(3)), epsilon=0.0)
    np.testing.assert_allclose(y[:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-6)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], [0.9 * 0 + 0.1 * 2], rtol=1e-6)
    np.testing.assert_allclose(changed["batch_stats"]["var"], [0.9 * 1 + 0.1 * 1], rtol=1e-6)


def test_padding_is_left_out():
    """Also where it is infinite: it has weight 0."""
    x = jnp.array([[1.0], [2.0], [3.0]])
    padded = jnp.concatenate([x, jnp.full((2, 1), jnp.inf)])
    weights = jnp.array([1.0, 1, 1, 0, 0])
    y, changed = normalise(padded, WholeBatch(weights))
    expected, alone = normalise(x, WholeBatch(jnp.ones(3)))
    np.testing.assert_array_equal(y[:3], expected)
    assert same(changed["batch_stats"], alone["batch_stats"])


def test_maps_are_normalised_over_examples_and_space():
    x = jnp.asarray(np.random.RandomState(0).randn(5, 4, 3, 2) * [2, 5] + [1, -3], jnp.float32)
    y, _ = normalise(x, WholeBatch(jnp.ones(5)))
    np.testing.assert_allclose(y.mean((0, 1, 2)), [0, 0], atol=1e-6)
    np.testing.assert_allclose(y.std((0, 1, 2)), [1, 1], rtol=1e-4)


@pytest.mark.parametrize("attributes, batch", [({}, False), ({"frozen": True}, True)])
def test_without_a_batch_or_frozen_the_running_averages_normalise(attributes, batch):
    x = jnp.arange(6.0).reshape(3, 2)
    y, changed = normalise(x, WholeBatch(jnp.ones(3)) if batch else None, **attributes)
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(changed["batch_stats"]["mean"], [0, 0])


def test_one_element_has_no_unbiased_variance():
    _, changed = normalise(jnp.ones((1, 2)), WholeBatch(jnp.ones(1)))
    assert np.isfinite(changed["batch_stats"]["var"]).all()


# --- in training --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows_of_ways():
    return rows_of_module("tests.norm_child")


@pytest.mark.parametrize("batch_size", [16, 13])
@pytest.mark.parametrize("way", ["sharded", "shard_map", "pmap"])
@pytest.mark.parametrize("net", NETS)
def test_eight_devices_agree_with_one(rows_of_ways, net, way, batch_size):
    """Also where eight do not divide the batch, and where the last batch is not full."""
    key = {"net": net, "way": way, "batch_size": batch_size}
    (row,) = [row for row in rows_of_ways if key.items() <= row.items()]
    assert row["params"] < 1e-6
    assert row["averages"] < 1e-6
    assert row["totals"] < 1e-4


@pytest.mark.parametrize("net", NETS)
def test_a_padded_batch_trains_as_the_batch_alone(net):
    task, hparams = task_of(NETS[net]), traced(Hparams(dropout=0.0))
    train = small_splits(count=12)["train"]
    state = init_state(task, 0, train["inputs"][:1], hparams)
    batch = {**train, "weights": jnp.ones(12)}
    filled = {
        "inputs": np.concatenate([train["inputs"], 255 - train["inputs"][:4]]),
        "labels": np.concatenate([train["labels"], train["labels"][:4]]),
        "weights": jnp.concatenate([jnp.ones(12), jnp.zeros(4)]),
    }
    step = jax.jit(functools.partial(train_step, task))
    (plain, _), (padded, _) = step(state, batch, hparams), step(state, filled, hparams)
    for a, b in zip(*map(jax.tree.leaves, (plain.variables, padded.variables)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert not same(state.collections["batch_stats"], plain.collections["batch_stats"])


class StopAt(Observer):
    """Asks to stop once, in the middle of the second epoch."""

    def __init__(self):
        self.looks = 0

    def should_stop(self):
        self.looks += 1
        return self.looks == 2


@pytest.mark.parametrize("net", NETS)
def test_running_averages_are_resumed_and_follow_the_selected_epoch(net, tmp_path):
    task, splits = task_of(NETS[net]), small_splits()
    programs = Programs(task, SINGLE())
    whole = fit(task, splits, Hparams(), PLAN, programs=programs)
    checkpoints = functools.partial(Checkpoints, tmp_path, every_seconds=1e9)
    with pytest.raises(Interrupted):
        fit(
            task, splits, Hparams(), PLAN, programs=programs, checkpoints=checkpoints(),
            observer=StopAt(),
        )  # fmt: skip
    resumed = fit(task, splits, Hparams(), PLAN, programs=programs, checkpoints=checkpoints())
    assert same(resumed.variables, whole.variables)
    upto = dataclasses.replace(PLAN, epochs=whole.selected_epoch, select="last")
    selected = fit(task, splits, Hparams(), upto, programs=programs)
    assert same(selected.variables, whole.variables), "the averages of the epoch that was kept"
    inputs = splits["validation"]["inputs"]
    logits = predict(task, SINGLE())(whole.variables, inputs)
    np.testing.assert_allclose(logits, task.logits(whole.variables, inputs), atol=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_trials_in_one_program_equal_trials_alone(net):
    task, splits = task_of(NETS[net]), small_splits(count=80)
    data = {
        key: np.concatenate([splits[name][key] for name in ("train", "validation")])
        for key in ("inputs", "labels")
    }
    rows = {"train": np.arange(80), "validation": np.arange(80, 110)}
    hparams = [Hparams(learning_rate=0.05), Hparams(learning_rate=0.02)]
    found = fit_trials(task, data, [rows] * 2, hparams, [0, 1], PLAN, devices=SINGLE())
    programs = Programs(task, SINGLE())
    for seed, (trial, own) in enumerate(zip(found, hparams, strict=True)):
        plan = dataclasses.replace(PLAN, seed=seed)
        alone = fit(task, splits, own, plan, programs=programs)
        for a, b in zip(*map(jax.tree.leaves, (trial.variables, alone.variables)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_axis_of_examples_must_be_the_first():
    class Swapped(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            x = jnp.swapaxes(x[..., 0], 0, 1)  # [8, N, 8]
            x = nn.BatchNorm(use_running_average=not train)(x)
            return nn.Dense(3)(jnp.swapaxes(x, 0, 1).reshape(x.shape[1], -1))

    with pytest.raises(ValueError, match="their axis must be the first"):
        fit(task_of(Swapped()), small_splits(), Hparams(), PLAN, devices=SINGLE())
