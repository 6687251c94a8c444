"""The pure step: weighted sums, padding, named streams, vmapped trials."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnnjax.training import Task, init_state, stream, train_step
from tests.training_task import Hparams, small_splits, small_task, traced

TASK = small_task()
STEP = jax.jit(functools.partial(train_step, TASK))


def batch_of(count: int, pad: int = 0) -> dict[str, jax.Array]:
    train = small_splits()["train"]
    filler = np.full((pad, 8, 8, 1), 77, np.uint8)
    return {
        "inputs": jnp.asarray(np.concatenate([train["inputs"][:count], filler])),
        "labels": jnp.asarray(np.concatenate([train["labels"][:count], np.zeros(pad, np.int32)])),
        "weights": jnp.asarray(np.r_[np.ones(count), np.zeros(pad)], jnp.float32),
    }


def start(seed: int = 0, hparams: Hparams | None = None):
    hparams = traced(hparams or Hparams())
    return init_state(TASK, seed, batch_of(1)["inputs"], hparams), hparams


def largest_difference(a, b) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), a, b)))


def test_one_step_by_hand():
    """One weight, one example with x = 2, squared error to 3: w = 1 -> 1 - 0.1 * 2 (2 - 3) 2."""

    class Scale(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, dropout=None):
            return inputs * self.param("w", nn.initializers.ones, (1, 1)), {}

    task = Task(
        model=Scale(),
        optimizer=lambda hparams: optax.sgd(hparams.learning_rate),
        loss=lambda logits, labels, hparams: (logits[:, 0] - labels) ** 2,
    )
    hparams = traced(Hparams(learning_rate=0.1, dropout=0.0))
    state = init_state(task, 0, jnp.zeros((1, 1)), hparams)
    batch = {
        "inputs": jnp.array([[2.0]]),
        "labels": jnp.array([3]),
        "weights": jnp.array([1.0]),
    }
    state, metrics = train_step(task, state, batch, hparams)
    np.testing.assert_allclose(state.params["w"], [[1.4]], rtol=1e-6)
    assert (float(metrics["loss"]), float(metrics["count"]), int(state.step)) == (1.0, 1.0, 1)


def test_padding_contributes_nothing_not_even_nan():
    state, hparams = start()
    padded = batch_of(13, pad=3)
    plain, metrics = STEP(state, batch_of(13), hparams)
    with_pad, padded_metrics = STEP(state, padded, hparams)
    assert largest_difference(plain.params, with_pad.params) < 1e-6
    assert float(metrics["count"]) == float(padded_metrics["count"]) == 13
    np.testing.assert_allclose(metrics["loss"], padded_metrics["loss"], rtol=1e-6)
    assert float(metrics["correct"]) == float(padded_metrics["correct"])


def test_streams_are_named_seeded_and_distinct():
    keys = [stream(seed, name) for seed in (0, 1) for name in ("init", "order", "dropout")]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == 6
    assert (jax.random.key_data(stream(0, "init")) == jax.random.key_data(keys[0])).all()


def test_dropout_differs_by_step_and_by_site():
    """Otherwise a unit dropped once would be dropped for ever."""
    seen = []

    class Probe(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, dropout=None):
            x = inputs + self.param("b", nn.initializers.zeros, (1, 1))
            if dropout:
                jax.debug.callback(lambda *masks: seen.append(masks), dropout(x), dropout(x, 1))
            return x, {}

    task = Task(model=Probe(), optimizer=lambda hparams: optax.sgd(0.0))
    hparams = traced(Hparams(dropout=0.5))
    batch = {
        "inputs": jnp.ones((4, 64)),
        "labels": jnp.zeros(4, jnp.int32),
        "weights": jnp.ones(4),
    }
    state = init_state(task, 0, batch["inputs"], hparams)
    for _ in range(2):
        state, _ = train_step(task, state, batch, hparams)
    jax.effects_barrier()
    masks = {np.asarray(mask).tobytes() for masks in seen for mask in masks}
    assert len(masks) == 4
    rows = np.asarray(seen[0][0])
    assert len({row.tobytes() for row in rows}) == 4, "examples share a mask"


def test_vmapped_trials_equal_trials_alone():
    """Hyperparameters and seed are data, so several trials are one program."""
    rates, seeds = np.float32([0.01, 0.05, 0.2]), np.uint32([3, 4, 5])
    hparams = Hparams(learning_rate=rates, dropout=np.float32([0.0, 0.3, 0.5]))
    inputs = batch_of(1)["inputs"]
    init = functools.partial(init_state, TASK)
    states = jax.vmap(lambda seed, h: init(seed, inputs, h))(seeds, hparams)
    step = jax.jit(jax.vmap(functools.partial(train_step, TASK), in_axes=(0, None, 0)))
    for _ in range(3):
        states, metrics = step(states, batch_of(16), hparams)
    for i in range(3):
        alone = jax.tree.map(lambda leaf, i=i: leaf[i], hparams)
        state = init(seeds[i], inputs, alone)
        for _ in range(3):
            state, alone_metrics = STEP(state, batch_of(16), alone)
        trial = jax.tree.map(lambda leaf, i=i: leaf[i], states)
        assert largest_difference(trial.params, state.params) < 1e-5
        np.testing.assert_allclose(metrics["loss"][i], alone_metrics["loss"], rtol=1e-4)


def test_constrain_is_applied_after_every_update_and_at_the_start():
    clip = lambda params, hparams: jax.tree.map(lambda p: jnp.clip(p, -0.01, 0.01), params)
    task = Task(TASK.model, TASK.optimizer, TASK.prepare, constrain=clip)
    hparams = traced(Hparams())
    state = init_state(task, 0, batch_of(1)["inputs"], hparams)
    for _ in range(2):
        assert all(float(jnp.abs(p).max()) <= 0.01 for p in jax.tree.leaves(state.params))
        state, _ = train_step(task, state, batch_of(8), hparams)


def test_inputs_are_augmented_in_training_only_each_by_a_key_of_its_own():
    def add_noise(keys, inputs, hparams):
        noise = jax.vmap(lambda key: jax.random.uniform(key, (1,)))(keys)
        return inputs + noise

    class Echo(nn.Module):
        @nn.compact
        def __call__(self, inputs, *, dropout=None):
            if dropout:
                jax.debug.callback(lambda x: seen.append(np.asarray(x)), inputs)
            return inputs * self.param("w", nn.initializers.ones, (1, 1)), {}

    seen = []
    task = Task(
        model=Echo(),
        optimizer=TASK.optimizer,
        loss=lambda logits, labels, hparams: logits[:, 0],
        augment=add_noise,
    )
    hparams, inputs = traced(Hparams()), jnp.zeros((4, 1))
    batch = {"inputs": inputs, "labels": jnp.zeros(4, jnp.int32), "weights": jnp.ones(4)}
    state = init_state(task, 0, inputs, hparams)
    for _ in range(2):
        state, _ = train_step(task, state, batch, hparams)
    jax.effects_barrier()
    assert len(np.unique(seen)) == 8, "examples or steps share their noise"
    np.testing.assert_array_equal(task.logits(state.variables, inputs), inputs)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_initial_parameters_are_a_function_of_the_seed(seed):
    first, _ = start(seed)
    again, _ = start(seed)
    other, _ = start(seed - 1 if seed else 1)
    assert largest_difference(first.params, again.params) == 0
    assert largest_difference(first.params, other.params) > 0
