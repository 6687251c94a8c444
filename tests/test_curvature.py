"""Diagonal Levenberg-Marquardt: curvature by brute force, a pass by hand, whole trainings."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnnjax.data.folds import pool
from cnnjax.training import (
    Devices,
    Interrupted,
    Observer,
    Plan,
    Task,
    calibrate,
    cross_entropy,
    fit,
    init_state,
    train_step,
)
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.curvature import calibration, gauss_newton_diagonal, scale_by_curvature
from cnnjax.training.trials import fit_trials
from tests.training_task import Hparams, SmallNet, small_splits, small_task, traced


def outputs(params, inputs):
    """3 -> 2 tanh -> 3."""
    return jnp.tanh(inputs @ params["first"]) @ params["second"]


def losses(outputs, labels, hparams=None):
    return cross_entropy(outputs, labels, hparams)


def small_problem():
    random = np.random.RandomState(0)
    params = {"first": random.randn(3, 2), "second": random.randn(2, 3)}
    return params, random.randn(5, 3), random.randint(0, 3, 5)


def brute_force(params, inputs):
    """The mean over examples of the diagonal of J^T H J, every matrix written out."""
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    total = 0
    for x in inputs:  # the Hessian is the same for every label
        of_params = lambda flat, x=x: outputs(unflatten(flat), x[None])[0]
        jacobian = jax.jacfwd(of_params)(flat)
        p = jax.nn.softmax(of_params(flat))
        hessian = jnp.diag(p) - jnp.outer(p, p)  # of softmax cross-entropy
        total += jnp.diag(jacobian.T @ hessian @ jacobian)
    return unflatten(total / len(inputs))


def test_it_is_the_diagonal_of_the_gauss_newton_matrix(x64):
    params, inputs, labels = small_problem()
    found = gauss_newton_diagonal(outputs, losses, params, inputs, labels)
    expected = brute_force(params, inputs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10), found, expected)


def test_random_signs_have_it_as_their_mean(x64):
    params, inputs, labels = small_problem()
    key = jax.random.key(0)
    found = gauss_newton_diagonal(outputs, losses, params, inputs, labels, key, draws=20_000)
    expected = brute_force(params, inputs)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=0.03), found, expected)
    one = gauss_newton_diagonal(outputs, losses, params, inputs, labels, key, draws=1)
    assert not np.allclose(one["first"], expected["first"], rtol=0.03)


class TwoWeights(nn.Module):
    """y = w . x."""

    @nn.compact
    def __call__(self, inputs, *, dropout=None):
        return inputs @ self.param("w", lambda key: jnp.array([1.0, 0.0]))[:, None], {}


def test_a_pass_by_hand():
    """(y - t)^2 with x = (1, 0), t = 3 and x = (2, 1), t = 2, from w = (1, 0).

    h = 2 mean(x^2) = (5, 1), so that with mu = 1 and epsilon = 0.6 the rates are 0.1 and 0.3.
    First y = 1, the gradient 2 (1 - 3) (1, 0) = (-4, 0), and w = (1.4, 0); then y = 2.8, the
    gradient 2 (0.8) (2, 1) = (3.2, 1.6), and w = (1.08, -0.48).
    """
    squared = lambda logits, labels, hparams: (logits[:, 0] - labels) ** 2
    task = Task(
        model=TwoWeights(),
        optimizer=lambda hparams: optax.chain(
            scale_by_curvature(1.0), optax.scale_by_learning_rate(hparams.learning_rate)
        ),
        loss=squared,
        calibrate=calibration(
            lambda params, x: TwoWeights().apply({"params": params}, x)[0], squared, draws=None
        ),
    )
    inputs, labels = jnp.array([[1.0, 0.0], [2.0, 1.0]]), jnp.array([3, 2])
    hparams = traced(Hparams(learning_rate=0.6))
    state = init_state(task, 0, inputs, hparams)
    state = calibrate(task, state, {"inputs": inputs, "labels": labels}, hparams)
    np.testing.assert_allclose(state.opt_state[0].curvature["w"], [5, 1], rtol=1e-6)
    for row, w in ((0, [1.4, 0]), (1, [1.08, -0.48])):
        batch = {"inputs": inputs[row : row + 1], "labels": labels[row : row + 1]}
        state, _ = train_step(task, state, batch | {"weights": jnp.ones(1)}, hparams)
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)


# --- in training ------------------------------------------------------------------------------

PLAN = Plan(epochs=3, batch_size=16, seed=3)
HPARAMS = Hparams(learning_rate=0.05)


def curved_task(examples: int = 20) -> Task:
    task = small_task()
    logits = lambda params, x: SmallNet().apply({"params": params}, task.prepare(x))[0]
    return dataclasses.replace(
        task,
        optimizer=lambda hparams: optax.chain(
            scale_by_curvature(0.1), optax.scale_by_learning_rate(hparams.learning_rate)
        ),
        calibrate=calibration(logits, losses),
        calibration_examples=examples,
    )


def largest_difference(a, b) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), a, b)))


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(curved_task(), small_splits(), HPARAMS, PLAN, devices=Devices("single"))


def test_it_is_measured_anew_before_every_epoch():
    seen = []

    def spy(key, params, opt_state, examples, hparams):
        jax.debug.callback(lambda labels: seen.append(np.asarray(labels)), examples["labels"])
        return opt_state

    task = dataclasses.replace(curved_task(), calibrate=spy)
    fit(task, small_splits(), HPARAMS, PLAN, devices=Devices("single"))
    jax.effects_barrier()
    assert [len(labels) for labels in seen] == [20] * PLAN.epochs
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("stop_after", [2, 3])
def test_resumed_equals_uninterrupted(tmp_path, uninterrupted, stop_after, monkeypatch):
    """Stopped between epochs and within one."""
    monkeypatch.setattr("cnnjax.training.loop._CALLED_STEPS", 4)  # of the 6 of an epoch

    class Stop(Observer):
        checks = 0

        def should_stop(self):
            self.checks += 1
            return self.checks > stop_after

    arguments = (curved_task(), small_splits(), HPARAMS, PLAN)
    with pytest.raises(Interrupted) as stopped:
        fit(
            *arguments,
            devices=Devices("single"),
            checkpoints=Checkpoints(tmp_path),
            observer=Stop(),
        )
    assert stopped.value.step == {2: 6, 3: 10}[stop_after]
    resumed = fit(*arguments, devices=Devices("single"), checkpoints=Checkpoints(tmp_path))
    assert largest_difference(resumed.params, uninterrupted.params) == 0


def test_trials_together_agree_with_one_alone(uninterrupted):
    data, rows = pool(small_splits())
    found = fit_trials(
        curved_task(), data, [rows] * 2, [HPARAMS, Hparams(learning_rate=0.01)], [3, 4], PLAN,
        devices=Devices("single"),
    )  # fmt: skip
    assert largest_difference(found[0].params, uninterrupted.params) < 1e-5


def test_fewer_examples_than_asked_for_are_all_taken():
    task = curved_task(examples=500)
    data = small_splits()["train"]
    state = init_state(task, 0, data["inputs"], traced(HPARAMS))
    logits = lambda params, x: SmallNet().apply({"params": params}, task.prepare(x))[0]
    exact = dataclasses.replace(task, calibrate=calibration(logits, losses, draws=None))
    found = calibrate(exact, state, jax.tree.map(jnp.asarray, data), traced(HPARAMS))
    expected = gauss_newton_diagonal(logits, losses, state.params, data["inputs"], data["labels"])
    assert largest_difference(found.opt_state[0].curvature, expected) < 1e-5
