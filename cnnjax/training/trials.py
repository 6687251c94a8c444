"""Many trainings in one program: the one step, vmapped over trials.

All trials share the task, the data on the device and the number of steps; each has its own
hyperparameters, seed, order and rows of the data.  The trial axis R is divided over all devices,
without any communication between them.
"""

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

from cnnjax.data.folds import Rows
from cnnjax.data.order import bucketed_rows, epoch_rows
from cnnjax.runtime.compilation import jit
from cnnjax.training.batches import length_classes
from cnnjax.training.checks import outputs_of, require_labels, require_sound
from cnnjax.training.devices import Devices, repeat
from cnnjax.training.loop import Fitted
from cnnjax.training.observer import Diverged, diverged
from cnnjax.training.plan import Plan
from cnnjax.training.progress import (
    Progress,
    all_finite,
    init_progress,
    keep_best,
    no_totals,
    step_on_rows,
)
from cnnjax.training.step import Metrics, TrainState, calibrate, stream
from cnnjax.training.task import Hparams, Task

_EVALUATION_BATCH = 512
_MEMORY_SHARE = 0.6  # of a device's free memory, that trials may fill
_MOST_TRIALS = 256  # at once, on one device
_AXIS = "trials"


@struct.dataclass
class Trials:
    """Trials on the way, every array with a leading trial axis R.

    Attributes:
        progress: as of a training alone.
        active: bool[R], whether it still trains: it has neither diverged nor stopped early.
        diverged_at: int32[R], the step at which it was found to diverge, or -1.
    """

    progress: Progress
    active: jax.Array
    diverged_at: jax.Array


class TrialPrograms:
    """The compiled functions of one task for many trials, which sets of trials share.

    Args:
        task: the model with its loss and its optimiser.
        plan: epochs, batch size, patience and selection.
        devices: whose devices the trials are divided among.
        trials: how many are trained at once at most; fewer are filled up with repeats.
    """

    def __init__(self, task: Task, plan: Plan, devices: Devices, trials: int):
        self.trials = devices.width(trials)
        mesh = jax.make_mesh(
            (len(devices.devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices.devices
        )
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.by_trial = NamedSharding(mesh, PartitionSpec(_AXIS))
        compiled = functools.partial(jit, out_shardings=self.by_trial)
        self.start = compiled(jax.vmap(functools.partial(_start, task), in_axes=(None, 0, 0)))
        self.calibrate = None
        if task.calibrate:
            self.calibrate = compiled(
                jax.vmap(functools.partial(calibrate, task), in_axes=(0, None, 0, 0))
            )
        self.order = compiled(jax.vmap(functools.partial(_epoch, plan), in_axes=(0, 0, 0, None)))
        self.advance = trial_steps(task, devices.one_program, self.by_trial)
        self.end = compiled(
            jax.vmap(
                functools.partial(_end_of_epoch, task, plan.patience, plan.ties),
                in_axes=(0, None, 0, 0, None),
            )
        )


def fit_trials(
    task: Task,
    data: Mapping[str, np.ndarray],
    rows: Sequence[Rows],
    hparams: Sequence[Hparams],
    seeds: Sequence[int],
    plan: Plan,
    *,
    devices: Devices | None = None,
    programs: TrialPrograms | None = None,
) -> list[Fitted | Diverged]:
    """Train R trials at once; each agrees, to float tolerance, with :func:`fit` on it alone.

    Args:
        task: the model with its loss and its optimiser.
        data: "inputs" [N, ...] and "labels" int32[N], of which there is one copy per device.
        rows: for every trial, which rows it trains and is validated on ("train" and "validation");
            all with equally many training rows.
        hparams: of every trial.
        seeds: of every trial; ``plan.seed`` is not used.
        plan: epochs, batch size, patience and selection of all.
        devices: whose devices the trials are divided among.
        programs: compiled before for this task, plan and these devices; by default made for
            these trials.

    Returns:
        For every trial its selected parameters, or why it diverged; "seconds" is its share of the
        time of all.

    Raises:
        ValueError: trials with unequal numbers of training rows, lists of unequal length, or
            more trials than ``programs`` has room for.
    """
    require_sound(task, {"train": data, "validation": data}, hparams[0], plan)
    require_labels({"train": data}, outputs_of(task, data["inputs"], hparams[0]))
    programs = programs or TrialPrograms(task, plan, devices or Devices(), len(rows))
    began = time.perf_counter()
    count = len(rows[0]["train"])
    if any(len(trial["train"]) != count for trial in rows):
        sizes = sorted({len(trial["train"]) for trial in rows})
        raise ValueError(f"trials must train on equally many rows; these have {sizes}")
    if not len(rows) == len(hparams) == len(seeds) <= programs.trials:
        raise ValueError(
            f"there are {len(rows)} rows, {len(hparams)} hparams and {len(seeds)} seeds, and room "
            f"for {programs.trials}"
        )
    chosen = [*range(len(rows)), *[0] * (programs.trials - len(rows))]
    place = functools.partial(jax.device_put, device=programs.by_trial)
    classes: list[Any] = [
        length_classes(task, data["inputs"][trial["train"]], plan) for trial in rows
    ]
    arrays = {name: np.asarray(data[name]) for name in ("inputs", "labels")}
    data = jax.device_put(arrays, programs.everywhere)
    traced = place(_stack([hparams[i] for i in chosen], jnp.float32))
    seed = place(np.asarray([seeds[i] for i in chosen], np.uint32))
    train = place(np.stack([rows[i]["train"] for i in chosen]).astype(np.int32))
    alike = None if classes[0] is None else place(np.stack([classes[i] for i in chosen]))
    held_out = place(_batches([rows[i]["validation"] for i in chosen]))
    steps = -(-count // min(plan.batch_size, count))

    trials = programs.start(data["inputs"][:1], traced, seed)
    for epoch in range(plan.epochs):
        batches = programs.order(train, alike, seed, np.int32(epoch))
        progress = trials.progress
        state = progress.state
        if programs.calibrate:
            state = programs.calibrate(state, data, traced, train)
        state, totals = programs.advance(
            (state, progress.totals), data, *batches, traced, trials.active, steps
        )
        trials = trials.replace(progress=progress.replace(state=state, totals=totals))
        trials = programs.end(trials, data, held_out, traced, np.int32(epoch + 1))
        if not np.any(trials.active):
            break
    trials = jax.device_get(trials)
    seconds = (time.perf_counter() - began) / len(rows)
    return [_outcome(trials, i, hparams[i], plan, steps, seconds) for i in range(len(rows))]


def how_many_fit(task: Task, inputs: np.ndarray, hparams: Hparams, plan: Plan) -> int:
    """How many trials a device has memory for, from what the compiled step of one needs."""
    device = jax.local_devices()[0]
    memory = device.memory_stats() or {}
    if "bytes_limit" not in memory:
        return _MOST_TRIALS
    like = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype)
    hparams = jax.tree.map(lambda _: like((), jnp.float32), hparams)
    progress = jax.eval_shape(
        functools.partial(init_progress, task), inputs[:1], hparams, like((), jnp.uint32)
    )
    batch = plan.batch_size
    data = {"inputs": like(inputs.shape, inputs.dtype), "labels": like(inputs.shape[:1], jnp.int32)}
    once = jit(functools.partial(step_on_rows, task)).lower(
        (progress.state, progress.totals),
        data,
        like((1, batch), jnp.int32),
        like((1, batch), jnp.float32),
        hparams,
    )
    temporary = once.compile().memory_analysis().temp_size_in_bytes
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(progress))
    free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
    return int(np.clip(_MEMORY_SHARE * free / (temporary + 2 * kept), 1, _MOST_TRIALS))


def _start(task: Task, inputs: jax.Array, hparams: Hparams, seed: jax.Array) -> Trials:
    return Trials(
        progress=init_progress(task, inputs, hparams, seed),
        active=jnp.full((), True),
        diverged_at=jnp.full((), -1, jnp.int32),
    )


def _epoch(
    plan: Plan,
    members: jax.Array,
    buckets: jax.Array | None,
    seed: jax.Array,
    epoch: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One trial's batches of its ``members``: rows int32[S, B], weights float32[S, B].

    ``buckets``, if given, are the members' classes of lengths (:func:`length_classes`).
    """
    count, order = len(members), stream(seed, "order")
    batch_size = min(plan.batch_size, count)
    if buckets is None:
        rows, weights = epoch_rows(order, epoch, count=count, batch_size=batch_size)
    else:
        rows, weights = bucketed_rows(
            order, epoch, buckets, batch_size=batch_size, regroup=plan.regroup
        )
    return members[rows], weights


def trial_steps(task: Task, one_program: bool, by_trial: Sharding) -> Any:
    """Compile ``advance(carry, data, rows, weights, hparams, active, steps) -> carry``.

    It is to many trials what :meth:`Devices.program` is to one: all arguments but ``data`` and
    ``steps`` have a leading trial axis R, which ``by_trial`` places; ``carry`` is donated.
    """

    def step(carry, data, rows, weights, hparams, active):
        after = step_on_rows(task, carry, data, rows, weights, hparams)
        return _where(active, after, carry)

    many = jax.vmap(step, in_axes=(0, None, 0, 0, 0, 0))
    options = {"donate_argnums": 0, "out_shardings": by_trial}
    if one_program:

        def all_steps(carry, data, rows, weights, hparams, active, steps):
            once = lambda carry: many(carry, data, rows, weights, hparams, active)
            return repeat(once, steps, carry)

        return jit(all_steps, **options)
    once = jit(many, **options)

    def loop(carry, *arguments):
        *arguments, steps = arguments
        for _ in range(steps):
            carry = once(carry, *arguments)
        return carry

    return loop


def _end_of_epoch(
    task: Task,
    patience: int | None,
    ties: str,
    trial: Trials,
    data: Mapping[str, jax.Array],
    held_out: tuple[jax.Array, jax.Array],
    hparams: Hparams,
    epoch: jax.Array,
) -> Trials:
    """Validate one trial, keep its best parameters, and decide whether it goes on."""
    state, totals, best = trial.progress.state, trial.progress.totals, trial.progress.best
    loss, accuracy = _validate(task, state, data, held_out, hparams)
    finite = (totals["bad_step"] < 0) & all_finite(state.variables) & jnp.isfinite(loss)
    loss = jnp.where(finite, loss, jnp.inf)
    now = keep_best(best, state.variables, epoch, accuracy, loss, ties=ties)
    best = _where(trial.active, now, best)
    bad_step = jnp.where(totals["bad_step"] < 0, state.step, totals["bad_step"])
    goes_on = trial.active & finite
    if patience is not None:
        goes_on &= epoch - best.epoch < patience
    return Trials(
        progress=Progress(state=state, totals=no_totals(), best=best),
        active=goes_on,
        diverged_at=jnp.where(trial.active & ~finite, bad_step, trial.diverged_at),
    )


def _validate(
    task: Task,
    state: TrainState,
    data: Mapping[str, jax.Array],
    held_out: tuple[jax.Array, jax.Array],
    hparams: Hparams,
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over the held-out rows."""

    def add(sums: Metrics, batch: tuple[jax.Array, jax.Array]) -> tuple[Metrics, None]:
        rows, weights = batch
        labels = data["labels"][rows]
        logits = task.logits(state.variables, data["inputs"][rows])
        losses = jnp.where(weights > 0, task.loss(logits, labels, hparams), 0)
        correct = (logits.argmax(-1) == labels) * weights
        return {
            "loss": sums["loss"] + losses.sum(),
            "correct": sums["correct"] + correct.sum(),
        }, None

    sums, _ = lax.scan(add, {"loss": jnp.zeros(()), "correct": jnp.zeros(())}, held_out)
    count = held_out[1].sum()
    return sums["loss"] / count, sums["correct"] / count


def _batches(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Row lists as int32[R, S, B] with weights float32[R, S, B] that are 0 where there is none."""
    longest = max(map(len, rows))
    width = min(_EVALUATION_BATCH, longest)
    total = -(-longest // width) * width
    padded = np.stack([np.pad(trial, (0, total - len(trial))) for trial in rows])
    weights = np.stack([np.arange(total) < len(trial) for trial in rows])
    shape = (len(rows), -1, width)
    return padded.astype(np.int32).reshape(shape), weights.astype(np.float32).reshape(shape)


def _outcome(
    trials: Trials, i: int, hparams: Hparams, plan: Plan, steps: int, seconds: float
) -> Fitted | Diverged:
    if trials.diverged_at[i] >= 0:
        return diverged(
            f"the loss or a parameter is infinite or not a number at step {trials.diverged_at[i]}",
            hparams,
        )
    state, best = trials.progress.state, trials.progress.best
    epochs = int(state.step[i]) // steps
    chosen_best = plan.select == "best"
    variables = best.variables if chosen_best else state.variables
    return Fitted(
        variables=jax.tree.map(lambda leaf: leaf[i], variables),
        selected_epoch=int(best.epoch[i]) if chosen_best else epochs,
        epochs=epochs,
        seconds=seconds,
    )


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _stack(trees: Sequence[Any], dtype: Any) -> Any:
    return jax.tree.map(lambda *leaves: np.asarray(leaves, dtype), *trees)
