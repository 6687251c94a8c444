"""What a training has reached, and the pure functions that take it further.

:mod:`cnnjax.training.loop` drives one with them, :mod:`cnnjax.training.trials` many, vmapped.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from cnnjax.training.sparse.buckets import Bucket
from cnnjax.training.step import Metrics, TrainState, init_state, train_step
from cnnjax.training.task import Hparams, Task


@struct.dataclass
class Best:
    """The model's variables after the best epoch so far (:func:`keep_best`)."""

    variables: Any
    epoch: jax.Array
    accuracy: jax.Array
    loss: jax.Array


@struct.dataclass
class Progress:
    """All that a resumed run needs: the state, the unfinished epoch's sums, and the best so far."""

    state: TrainState
    totals: Metrics
    best: Best


def init_progress(task: Task, inputs: jax.Array, hparams: Hparams, seed: jax.Array) -> Progress:
    """Progress before the first step; pure."""
    state = init_state(task, seed, inputs, hparams)
    best = Best(
        variables=state.variables,
        epoch=jnp.zeros((), jnp.int32),
        # With their types: the weak ones of -1.0 and inf would be another program's.
        accuracy=jnp.full((), -1.0, jnp.float32),
        loss=jnp.full((), jnp.inf, jnp.float32),
    )
    return Progress(state=state, totals=jax.tree.map(jnp.asarray, no_totals()), best=best)


def all_finite(tree: Any) -> jax.Array:
    """Whether no element of any array is infinite or NaN: bool[]."""
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))


def keep_best(
    best: Best,
    variables: Any,
    epoch: jax.Array,
    accuracy: jax.Array,
    loss: jax.Array,
    *,
    ties: str,
) -> Best:
    """``best``, or the present epoch where it is better; pure, so it works per trial under vmap.

    Better is a higher accuracy; where it is equal ``ties``, a plan's, decides.  An epoch whose loss
    is infinite or NaN is never better.
    """
    wins_tie = True if ties == "latest" else loss < best.loss
    better = (accuracy > best.accuracy) | ((accuracy == best.accuracy) & wins_tie)
    better &= jnp.isfinite(loss)
    now = Best(variables=variables, epoch=epoch, accuracy=accuracy, loss=loss)
    choose = lambda new, old: jnp.where(better, new, old).astype(old.dtype)
    return jax.tree.map(choose, now, best)


def step_on_rows(
    task: Task,
    carry: tuple[TrainState, Metrics],
    data: Mapping[str, jax.Array],
    rows: jax.Array,
    weights: jax.Array,
    hparams: Hparams,
    *,
    axis_name: str | None = None,
    bucket: Bucket | None = None,
) -> tuple[TrainState, Metrics]:
    """One training step on the row of ``rows`` [S, W] that the state's step points at; pure.

    The batch is gathered from ``data`` on the device, and cut to ``bucket`` if there is one.
    ``carry`` is the state and the sums of the epoch so far.
    """
    state, totals = carry
    now = state.step % rows.shape[0]
    batch = {name: array[rows[now]] for name, array in data.items()} | {"weights": weights[now]}
    if bucket:
        batch["inputs"] = batch["inputs"][:, : bucket.columns]
    after, metrics = train_step(
        task, state, batch, hparams, axis_name=axis_name, rows=bucket and bucket.rows
    )
    first_bad = jnp.where(
        (totals["bad_step"] < 0) & ~jnp.isfinite(metrics["loss"]), state.step, totals["bad_step"]
    )
    sums = {name: totals[name] + metrics[name] for name in metrics}
    return after, sums | {"bad_step": first_bad}


def no_totals() -> dict[str, Any]:
    """The sums of an epoch before its first step, on the host: jax would compile each zero."""
    sums = {name: np.zeros((), np.float32) for name in ("loss", "correct", "count")}
    return sums | {"bad_step": np.full((), -1, np.int32)}
