"""Learning rates over the steps, in which every number may be traced.

optax has these schedules, under the names that are given below, but asks some of its numbers in
Python: ``if peak_value == 0.0`` fails where the rate is a hyperparameter of a trial.  Here rates,
lengths and factors may all be leaves of ``hparams``.  A schedule is ``count -> rate``, as optax's
optimisers take it, with ``count`` int32[], the updates made so far:

    def optimizer(hparams):
        return optax.sgd(schedules.cosine(hparams.learning_rate, steps=1000), momentum=0.9)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Number = jax.Array | float | int
Schedule = Callable[[Any], jax.Array]


def constant(value: Number) -> Schedule:
    """``value`` at every step (``optax.constant_schedule``)."""
    return lambda count: jnp.asarray(value, jnp.float32)


def step(value: Number, every: Number, factor: Number = 0.1) -> Schedule:
    """``value``, times ``factor`` after ``every`` steps, and again after as many.

    PyTorch's ``StepLR``, of steps instead of epochs; ``optax.exponential_decay`` with a staircase.
    """
    return lambda count: value * jnp.asarray(factor, jnp.float32) ** jnp.floor(count / every)


def cosine(value: Number, steps: Number, end: Number = 0.0) -> Schedule:
    """Half a cosine from ``value`` down to ``end``, where it stays after ``steps``.

    ``optax.cosine_decay_schedule``, whose ``alpha`` is ``end / value``.

    Source: Loshchilov and Hutter 2016, "SGDR", equation 5, without restarts.
    """
    length = float(steps) if isinstance(steps, int) else steps

    def schedule(count: Number) -> jax.Array:
        falling = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(count, length) / length))
        if isinstance(end, float | int) and end == 0:
            return value * falling
        return (value - end) * falling + end

    return schedule


def warmup_cosine(
    value: Number, steps: Number, warmup: Number, start: Number = 0.0, end: Number = 0.0
) -> Schedule:
    """A line from ``start`` up to ``value`` in ``warmup`` steps, then :func:`cosine` to ``steps``.

    ``optax.warmup_cosine_decay_schedule``.

    Source: Goyal et al. 2017, section 2.2, for the warm-up.
    """

    def schedule(count: Number) -> jax.Array:
        rising = start + (value - start) * jnp.minimum(count / jnp.maximum(warmup, 1), 1)
        return jnp.where(count < warmup, rising, cosine(value, steps - warmup, end)(count - warmup))

    return schedule


def one_cycle(
    value: Number,
    steps: Number,
    rising: Number = 0.3,
    initial: Number = 1 / 25,
    final: Number = 1 / 250_000,
) -> Schedule:
    """Half a cosine up to ``value`` in a share ``rising`` of ``steps``, then one down.

    ``optax.cosine_onecycle_schedule``, and PyTorch's ``OneCycleLR``.

    Args:
        value: the highest rate.
        steps: of all.
        rising: the share of steps in which it rises.
        initial: the first rate, as a share of the highest.
        final: the last.

    Source: Smith and Topin 2017, "Super-Convergence".
    """
    top = jnp.floor(rising * jnp.asarray(steps, jnp.float32))

    def schedule(count: Number) -> jax.Array:
        up = cosine(value * initial, top, value)(count)
        down = cosine(value, steps - top, value * final)(count - top)
        return jnp.where(count < top, up, down)

    return schedule
