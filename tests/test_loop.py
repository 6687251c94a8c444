"""The loop: selection, early stopping, divergence, stop and exact resume, in one process."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.training import (
    Devices,
    Diverged,
    Interrupted,
    Observer,
    Plan,
    Programs,
    devices,
    evaluator,
    fit,
    measure,
    predict,
)
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.progress import Best, all_finite, init_progress, keep_best
from tests.training_task import Hparams, small_splits, small_task

PLAN = Plan(epochs=4, batch_size=16, seed=3)
SPLITS = small_splits()
HPARAMS = Hparams()


class Recorder(Observer):
    """Keeps the rows; asks to stop once ``stop_after`` checks have passed."""

    def __init__(self, stop_after: int | None = None):
        self.rows, self._left, self.started = [], stop_after, []

    def start(self, step):
        self.started.append(step)

    def epoch_end(self, row):
        self.rows.append({k: v for k, v in row.items() if k != "seconds"})

    def should_stop(self):
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


def run(
    plan=PLAN, hparams=HPARAMS, observer=None, checkpoints=None, task=None, splits=SPLITS, **options
):
    return fit(
        task or small_task(), splits, hparams, plan,
        devices=Devices("single", **options), observer=observer, checkpoints=checkpoints,
    )  # fmt: skip


def same(a, b) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


@pytest.fixture(scope="module")
def uninterrupted():
    recorder = Recorder()
    fitted = run(observer=recorder)
    return fitted, recorder.rows


def test_it_learns_and_is_reproducible(uninterrupted):
    fitted, rows = uninterrupted
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["step"] == 4 * 6  # ceil(90 / 16) steps an epoch
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]
    assert same(run().params, fitted.params)


def test_the_best_epoch_is_the_one_with_the_best_validation(uninterrupted):
    fitted, rows = uninterrupted
    key = lambda row: (-row["validation"]["accuracy"], row["validation"]["loss"])
    best = min(rows, key=key)
    assert fitted.selected_epoch == best["epoch"]
    device, validation = Devices("single"), SPLITS["validation"]
    logits = predict(small_task(), device)(fitted.variables, validation["inputs"])
    means = measure(small_task(), logits, validation["labels"], Hparams())
    found = evaluator(small_task(), device)(fitted.variables, Hparams(), {"validation": validation})
    np.testing.assert_allclose(found["validation"][0], logits, atol=1e-6)
    assert found["validation"][1] == pytest.approx(means, rel=1e-6)
    assert means["accuracy"] == best["validation"]["accuracy"]
    assert means["loss"] == pytest.approx(best["validation"]["loss"], rel=1e-6)


def test_select_last_takes_the_last_epoch():
    fitted = run(Plan(epochs=2, batch_size=16, seed=3, select="last"))
    assert fitted.selected_epoch == fitted.epochs == 2


@pytest.mark.parametrize(
    ("accuracy", "loss", "taken", "latest"),
    [
        *[(0.6, 9.0, True, True), (0.5, 0.9, True, True), (0.4, 0.1, False, False)],
        *[(0.5, 1.0, False, True), (0.5, 1.1, False, True)],
        *[(0.5, np.nan, False, False), (0.6, np.nan, False, False), (0.6, np.inf, False, False)],
    ],
)
def test_keep_best_prefers_accuracy_then_loss_or_the_latest(accuracy, loss, taken, latest):
    best = Best(np.float32([1.0]), np.int32(1), np.float32(0.5), np.float32(1.0))
    for ties, expected in (("loss", taken), ("latest", latest)):
        found = keep_best(best, np.float32([2.0]), 2, accuracy, loss, ties=ties)
        assert (int(found.epoch), float(found.variables[0])) == ((2, 2.0) if expected else (1, 1.0))


def test_of_equal_epochs_the_latest_may_be_the_best():
    """A rate so small that all epochs have the same accuracy; each counts as better, too."""
    plan = Plan(epochs=4, batch_size=16, patience=2, ties="latest")
    fitted = run(plan, Hparams(learning_rate=1e-12, dropout=0.0))
    assert (fitted.selected_epoch, fitted.epochs) == (4, 4)


def test_patience_stops_early():
    """A rate so small that nothing improves: the first epoch is the best."""
    plan = Plan(epochs=50, batch_size=16, patience=2)
    fitted = run(plan, Hparams(learning_rate=1e-12, dropout=0.0))
    assert (fitted.selected_epoch, fitted.epochs) == (1, 3)


def test_divergence_names_the_step_and_the_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Diverged, match=r"at step \d+; nothing was saved; .*now 1e\+30"):
        run(hparams=Hparams(learning_rate=1e30), checkpoints=checkpoints)
    assert checkpoints.latest() is None, "a broken state was saved"


@pytest.mark.parametrize("bad_step", [5, 7, 23])
@pytest.mark.parametrize("one_program", [False, True])
def test_an_update_that_is_not_finite_is_never_saved_or_returned(tmp_path, bad_step, one_program):
    """6 steps an epoch: at the end of one, inside one, and at the very end of training."""
    spoil = lambda updates, state, params: (
        jax.tree.map(lambda u: jnp.where(state == bad_step, jnp.nan, -0.05 * u), updates),
        state + 1,
    )
    optimizer = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), spoil)
    task = dataclasses.replace(small_task(), optimizer=lambda hparams: optimizer)
    checkpoints = Checkpoints(tmp_path, every_seconds=0)
    # Inside an epoch the next step's loss tells, at its end the parameters.
    at = rf"at step {bad_step + 1}" if bad_step == 7 else rf"parameter .* after step {bad_step + 1}"
    with pytest.raises(Diverged, match=at):
        run(task=task, checkpoints=checkpoints, one_program=one_program)
    assert checkpoints.latest() == (bad_step // 6 * 6 or None)
    if bad_step > 5:
        like = init_progress(task, SPLITS["train"]["inputs"], HPARAMS, 0)
        assert all_finite(checkpoints.restore(like)[0].state.params)


def test_a_validation_loss_that_is_not_finite_ends_training():
    validation = SPLITS["validation"] | {"inputs": np.full((30, 8, 8, 1), np.nan, np.float32)}
    with pytest.raises(Diverged, match=r"validation loss .* after step 6; nothing was saved"):
        run(splits=SPLITS | {"validation": validation})


def test_a_batch_is_no_larger_than_the_split():
    whole = run(Plan(epochs=2, batch_size=90))
    assert same(run(Plan(epochs=2, batch_size=10**11)).params, whole.params)


def test_checkpoints_are_due_inside_an_epoch_too(tmp_path):
    class Recording(Checkpoints):
        def save(self, step, tree, meta):
            steps.append(step)
            super().save(step, tree, meta)

    steps = []
    plan = Plan(epochs=2, batch_size=4)  # 23 steps an epoch, looked at every 16
    run(plan, checkpoints=Recording(tmp_path, every_seconds=0), one_program=False)
    assert steps == [16, 23, 39, 46]


@pytest.mark.parametrize(
    # 23 steps an epoch.  Steps as calls are checked every 16: 39 is inside an epoch.
    ("one_program", "many", "stop_after", "stopped_at"),
    [(False, 512, 0, 0), (False, 512, 3, 39), (False, 23, 3, 39), (True, 512, 1, 23)],
)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path, monkeypatch, one_program, many, stop_after, stopped_at
):
    monkeypatch.setattr("cnnjax.training.devices._MANY_STEPS", many)
    plan = Plan(epochs=2, batch_size=4, seed=3)
    complete, first, rest = Recorder(), Recorder(stop_after), Recorder()
    reference = run(plan, observer=complete, one_program=one_program)
    with pytest.raises(Interrupted) as stop:
        run(plan, observer=first, checkpoints=Checkpoints(tmp_path), one_program=one_program)
    assert Checkpoints(tmp_path).latest() == stop.value.step == stopped_at
    fitted = run(plan, observer=rest, checkpoints=Checkpoints(tmp_path), one_program=one_program)
    assert same(fitted.params, reference.params)
    assert first.rows + rest.rows == complete.rows
    assert (first.started, rest.started) == ([None], [stopped_at])


@pytest.mark.parametrize(("parameters", "programs"), [(100_000, 1), (1, 0)])
def test_small_networks_take_four_steps_in_one_call(monkeypatch, parameters, programs):
    plan = Plan(epochs=2, batch_size=4)  # 23 steps an epoch
    alone = run(plan, one_program=False)
    monkeypatch.setattr("cnnjax.training.devices._MANY_STEPS", 23)
    monkeypatch.setattr("cnnjax.training.programs._FEW_PARAMETERS", parameters)
    built, grouped = [], devices._grouped
    monkeypatch.setattr(devices, "_grouped", lambda step: built.append(step) or grouped(step))
    found = run(plan, one_program=False)
    assert len(built) == programs
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(found.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_finished_run_is_not_trained_again(tmp_path, uninterrupted):
    first = run(checkpoints=Checkpoints(tmp_path))
    recorder = Recorder()
    again = run(observer=recorder, checkpoints=Checkpoints(tmp_path))
    assert recorder.rows == []
    assert same(first.params, again.params)
    assert same(first.params, uninterrupted[0].params)


def test_evaluation_is_exact_for_any_batch(uninterrupted):
    """30 examples through batches of 7 (the last one padded) as through one batch."""
    fitted, _ = uninterrupted
    inputs = SPLITS["validation"]["inputs"]
    apply = Devices("single").apply(small_task().logits)
    np.testing.assert_allclose(
        apply(fitted.variables, inputs, 7), apply(fitted.variables, inputs, 30), atol=1e-6
    )
    assert apply(fitted.variables, inputs, 7).shape == (30, 3)


def test_measure_by_hand():
    logits = np.log(np.float32([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]]))
    means = measure(small_task(), logits, np.int32([0, 2, 0]), Hparams())
    assert means["accuracy"] == pytest.approx(2 / 3)
    assert means["loss"] == pytest.approx(-np.log([0.5, 0.6, 0.1]).mean(), rel=1e-6)
    assert json.dumps(means)


def test_where_nobody_looks_only_the_last_epoch_is_validated():
    """And the last parameters are, to the bit, those of a training that is watched."""
    plan, counted = dataclasses.replace(PLAN, select="last"), []
    programs = Programs(small_task(), Devices("single"))
    evaluate = programs.evaluate
    programs.evaluate = lambda *arguments: counted.append(1) or evaluate(*arguments)
    recorder = Recorder()
    watched = fit(small_task(), SPLITS, HPARAMS, plan, programs=programs, observer=recorder)
    assert len(counted) == len(recorder.rows) == plan.epochs
    alone = fit(small_task(), SPLITS, HPARAMS, plan, programs=programs)
    assert len(counted) == plan.epochs + 1
    assert same(watched.params, alone.params)
    assert (alone.epochs, alone.selected_epoch) == (plan.epochs, plan.epochs)
    fit(small_task(), SPLITS, HPARAMS, PLAN, programs=programs)
    assert len(counted) == 2 * plan.epochs + 1, "where the best is chosen, all are"
