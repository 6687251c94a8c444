"""Schedules by hand, beside optax's, and with every number traced."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.training import schedules

STEPS = np.arange(0, 130, 7)
RATE = 0.3
# Ours with concrete numbers, all of them as arguments, and optax's.
PAIRS = {
    "constant": (schedules.constant, (RATE,), optax.constant_schedule(RATE)),
    "step": (
        schedules.step,
        (RATE, 20, 0.1),
        optax.exponential_decay(RATE, 20, 0.1, staircase=True),
    ),
    "cosine": (schedules.cosine, (RATE, 100), optax.cosine_decay_schedule(RATE, 100)),
    "cosine to an end": (
        schedules.cosine,
        (RATE, 100, 0.03),
        optax.cosine_decay_schedule(RATE, 100, alpha=0.1),
    ),
    "warm-up": (
        schedules.warmup_cosine,
        (RATE, 100, 10, 0.01, 0.02),
        optax.warmup_cosine_decay_schedule(0.01, RATE, 10, 100, 0.02),
    ),
    "one cycle": (
        schedules.one_cycle,
        (RATE, 100),
        optax.cosine_onecycle_schedule(100, RATE, final_div_factor=1e4),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_optaxs(name):
    schedule, numbers, expected = PAIRS[name]
    found = [float(schedule(*numbers)(step)) for step in STEPS]
    np.testing.assert_allclose(found, [float(expected(s)) for s in STEPS], rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("name", PAIRS)
def test_every_number_may_be_traced(name):
    """Also vmapped: a trial an entry."""
    schedule, numbers, _ = PAIRS[name]
    run = jax.jit(jax.vmap(lambda numbers, step: schedule(*numbers)(step), in_axes=(0, None)))
    trials = [tuple(number * factor for number in numbers) for factor in (1, 2)]
    stacked = tuple(jnp.array(column, jnp.float32) for column in zip(*trials, strict=True))
    for step in STEPS:
        expected = [float(schedule(*trial)(step)) for trial in trials]
        np.testing.assert_allclose(run(stacked, step), expected, rtol=1e-4, atol=1e-6)


def test_steps_by_hand():
    """PyTorch's StepLR(7, 0.1) over epochs of one step."""
    rates = [float(schedules.step(1.0, 7)(step)) for step in (0, 6, 7, 13, 14)]
    np.testing.assert_allclose(rates, [1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_a_cosine_ends_where_it_should():
    schedule = schedules.cosine(2.0, 10)
    np.testing.assert_allclose(
        [schedule(0), schedule(5), schedule(10), schedule(99)], [2, 1, 0, 0], atol=1e-6
    )
