"""Trials trained together are each what ``fit`` makes of it alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cnnjax.data.folds import fold_rows, pool
from cnnjax.training import Devices, Diverged, Plan, Programs, fit
from cnnjax.training.trials import fit_trials
from tests.child_process import rows_of_module
from tests.training_task import Hparams, small_splits, small_task

pytestmark = pytest.mark.usefixtures("kept_programs")

DATA, ROWS = pool(small_splits())
PLAN = Plan(epochs=4, batch_size=16, seed=99)  # 90 examples in 6 steps, the last of 10
HPARAMS = [Hparams(0.05, 0.0), Hparams(0.01, 0.3), Hparams(0.1, 0.6)]
SEEDS = [3, 3, 2**32 - 1]


@functools.cache
def programs():
    return Programs(small_task(), Devices("single"))


@functools.cache
def alone(hparams, seed, plan=PLAN, fold=None):
    """The trial by itself: what it is fitted to, or how it diverged."""
    rows = rows_of(fold)
    splits = {
        name: {key: array[rows[name]] for key, array in DATA.items()}
        for name in ("train", "validation")
    }
    plan = dataclasses.replace(plan, seed=seed)
    try:
        return fit(small_task(), splits, hparams, plan, programs=programs())
    except Diverged as error:
        return error


def rows_of(fold):
    return ROWS if fold is None else fold_rows(DATA["labels"], fold, 7, 0)


def together(hparams=HPARAMS, seeds=SEEDS, plan=PLAN, folds=None, one_program=False, rows=None):
    rows = rows or [rows_of(fold) for fold in folds or [None] * len(hparams)]
    devices = Devices("single", one_program=one_program)
    return fit_trials(small_task(), DATA, rows, hparams, seeds, plan, devices=devices)


def agree(found, expected):
    assert (found.epochs, found.selected_epoch) == (expected.epochs, expected.selected_epoch)
    leaves = zip(jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True)
    for ours, theirs in leaves:
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("one_program", [False, True])
def test_rates_dropouts_and_seeds_of_their_own(one_program):
    found = together(one_program=one_program)
    assert len(found) == 3
    for trial, hparams, seed in zip(found, HPARAMS, SEEDS, strict=True):
        agree(trial, alone(hparams, seed))
    biases = [np.asarray(jax.tree.leaves(trial.params)[0]) for trial in found]
    assert not np.allclose(biases[0], biases[1], atol=1e-3)
    assert len({trial.seconds for trial in found}) == 1 and found[0].seconds > 0


def test_select_last_takes_the_last_epoch_of_each():
    plan = dataclasses.replace(PLAN, epochs=3, select="last")
    # So small a rate that no later epoch is better than the first.
    hparams = [Hparams(0.05, 0.0), Hparams(1e-12, 0.0), HPARAMS[2]]
    for trial, each, seed in zip(together(hparams, SEEDS, plan), hparams, SEEDS, strict=True):
        assert (trial.epochs, trial.selected_epoch) == (3, 3)
        agree(trial, alone(each, seed, plan))


@pytest.mark.parametrize("select", ["best", "last"])
def test_with_patience_each_stops_at_its_own_epoch(select):
    plan = Plan(epochs=12, batch_size=16, patience=2, select=select)
    hparams = [Hparams(0.05, 0.0), Hparams(1e-12, 0.0), Hparams(0.02, 0.3)]
    found = together(hparams, [3, 3, 5], plan)
    for trial, each, seed in zip(found, hparams, [3, 3, 5], strict=True):
        agree(trial, alone(each, seed, plan))
    assert found[1].epochs == 3, "nothing improves on the first epoch: it stops two later"
    assert found[0].epochs > 3, "one that learns goes on"
    assert found[1].selected_epoch == (1 if select == "best" else 3)


def test_of_equal_epochs_the_latest_may_be_the_best():
    plan = Plan(epochs=3, batch_size=16, patience=1, ties="latest")
    found = together([Hparams(1e-12, 0.0)] * 3, SEEDS, plan)
    assert [(trial.epochs, trial.selected_epoch) for trial in found] == [(3, 3)] * 3


def test_all_that_stop_early_end_the_training():
    plan = Plan(epochs=10**6, batch_size=16, patience=1)
    found = together([Hparams(1e-12, 0.0)] * 3, SEEDS, plan)
    assert [(trial.epochs, trial.selected_epoch) for trial in found] == [(2, 1)] * 3


@pytest.mark.parametrize(("rate", "one_program"), [(1e30, False), (float("inf"), True)])
def test_one_that_diverges_ends_alone(rate, one_program):
    hparams = [HPARAMS[0], Hparams(rate, 0.0), HPARAMS[2]]
    first, broken, last = together(hparams, SEEDS, one_program=one_program)
    expected = alone(hparams[1], SEEDS[1])
    assert isinstance(broken, Diverged) and isinstance(expected, Diverged)
    step = lambda error: str(error).split(" step ")[1].split(";")[0]
    assert step(broken) == step(expected)
    assert f"learning_rate (now {rate})" in str(broken)
    # With another in its place, the others are the same to the bit.
    healthy = together(one_program=one_program)
    for i, trial in ((0, first), (2, last)):
        agree(trial, alone(HPARAMS[i], SEEDS[i]))
        for pair in zip(*map(jax.tree.leaves, (trial.params, healthy[i].params)), strict=True):
            np.testing.assert_array_equal(*pair)


def test_when_all_diverge_each_is_told():
    found = together([Hparams(float("inf"), 0.0)] * 3)
    assert [type(trial) for trial in found] == [Diverged] * 3


def test_rows_of_their_own():
    """Folds of 17 and 18 examples: the validation splits differ in size too."""
    folds = [0, 6, 1]
    assert len({len(rows_of(fold)["validation"]) for fold in folds}) == 2
    hparams = [HPARAMS[0]] * 3
    found = together(hparams, [3] * 3, folds=folds)
    for trial, fold in zip(found, folds, strict=True):
        agree(trial, alone(HPARAMS[0], 3, fold=fold))


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 rows, 1 hparams and 2 seeds"):
        together(HPARAMS[:1], [0, 1], rows=[ROWS] * 2)
    with pytest.raises(ValueError, match="2 rows, 2 hparams and 1 seeds"):
        together(HPARAMS[:2], [0], rows=[ROWS] * 2)
    shorter = {**ROWS, "train": ROWS["train"][:89]}
    with pytest.raises(ValueError, match=r"equally many rows; these have \[89, 90\]"):
        together(HPARAMS[:2], [0, 1], rows=[ROWS, shorter])


@pytest.fixture(scope="module")
def divided():
    """Comparisons in a process with 8 simulated devices."""
    return rows_of_module("tests.trials_child")


@pytest.mark.parametrize("width", [2, 8])
def test_trials_divided_over_devices_agree_with_each_alone(divided, width):
    """3 trials on 2 and on 8 devices, neither of which 3 fills; on 8 one of them diverges."""
    (row,) = [row for row in divided if row["width"] == width]
    assert len(row["trials"]) == 3
    assert [trial for trial in row["trials"] if "diverged" in trial] == (
        [{"diverged": True}] if width == 8 else []
    )
    for trial in row["trials"]:
        if "params" in trial:
            assert trial["params"] < 1e-5
            assert trial["epochs"][0] == trial["epochs"][1]
