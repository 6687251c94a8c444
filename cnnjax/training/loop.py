"""Training from the first step, or the last checkpoint, to the selected parameters."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.errors import UserError
from cnnjax.runtime import processes
from cnnjax.runtime.compilation import jit
from cnnjax.training.batches import Batches
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.devices import STEPS_A_CALL, Devices
from cnnjax.training.evaluation import accuracy_and_loss, evaluator
from cnnjax.training.feed import Feed
from cnnjax.training.plan import Plan
from cnnjax.training.progress import (
    Best,
    all_finite,
    init_progress,
    keep_best,
    no_totals,
    step_on_rows,
)
from cnnjax.training.sparse.buckets import Bucket
from cnnjax.training.step import Metrics, TrainState, calibrate
from cnnjax.training.task import Hparams, Task

# Steps between looks at the stop request and the clock: where steps are calls, and where they are
# one program.  Whole calls: a run that was resumed consists of the same ones.
_CALLED_STEPS, _PROGRAM_STEPS = 4 * STEPS_A_CALL, 1024
_FEW_PARAMETERS = 100_000  # with more, a step is long beside what lies between two calls
_SECONDS_BETWEEN_REPORTS = 0.5
_NOT_FINITE = "infinite or not a number"


class Observer:
    """What wants to know how training goes, or to end it; by default nothing does.

    Of several processes, each has its own; where one asks to stop, all do.
    """

    def start(self, step: int | None) -> None:
        """Before the first step; ``step`` is where a saved run goes on, None for a new one."""

    def progress(self, epoch: int, step: int, steps: int, means: Mapping[str, float]) -> None:
        """About twice a second: ``step`` of the ``steps`` of ``epoch`` (0, 1, ...) are done."""

    def epoch_end(self, row: Mapping[str, Any]) -> None:
        """After every epoch, with its row of metrics."""

    def should_stop(self) -> bool:
        """Whether to save and end now."""
        return False


class Interrupted(Exception):
    """Training was asked to stop; ``step`` is where its state was saved, if it was."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class Diverged(UserError):
    """The loss or the parameters became infinite or not a number."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The result: the selected parameters and the epoch after which they were taken (1, 2, ...)."""

    params: Any
    selected_epoch: int
    epochs: int
    seconds: float


class Programs:
    """The compiled functions of one task, which trainings one after another share.

    Args:
        task: what is learned, and how.
        devices: where.
    """

    def __init__(self, task: Task, devices: Devices):
        self.devices = devices
        self.start = jit(functools.partial(init_progress, task), seldom=True)
        self.calibrate = jit(functools.partial(calibrate, task)) if task.calibrate else None
        self._advance = functools.cache(
            lambda size, grouped: devices.program(
                functools.partial(step_on_rows, task, size=size), grouped=grouped
            )
        )
        self.all_finite = jit(all_finite, seldom=True)
        self.evaluate = evaluator(task, devices)
        self.update_best = jit(keep_best, seldom=True, static_argnames="ties")

    def advance(
        self,
        carry: tuple[TrainState, Metrics],
        data: Mapping[str, jax.Array],
        rows: jax.Array,
        weights: jax.Array,
        hparams: Hparams,
        steps: int,
        size: Bucket | None = None,
    ) -> tuple[TrainState, Metrics]:
        """``steps`` times :func:`step_on_rows`; ``carry`` is donated."""
        grouped = size is None and _is_small(carry[0].params)
        return self._advance(size, grouped)(carry, data, rows, weights, hparams, steps)


def fit(
    task: Task,
    splits: Mapping[str, Mapping[str, np.ndarray]],
    hparams: Hparams,
    plan: Plan,
    *,
    devices: Devices | None = None,
    programs: Programs | None = None,
    checkpoints: Checkpoints | None = None,
    observer: Observer | None = None,
) -> Fitted:
    """Train ``task`` on ``splits["train"]``, select on ``splits["validation"]``.

    Args:
        task: what is learned, and how.
        splits: "train" and "validation", each with "inputs" and "labels".
        hparams: a pytree dataclass of numbers.
        plan: epochs, batch size, seed, selection.
        devices: where and in which way; by default all devices there are.
        programs: compiled before for this task (and its devices), to be shared with other
            trainings; by default made for this one.
        checkpoints: where the run is saved and, if it was before, resumed.
        observer: is told how it goes and may end it.

    Returns:
        The selected parameters.

    Raises:
        Diverged: the loss or the parameters became infinite or NaN; names the step and the last
            checkpoint.  Nothing that is not finite is ever saved or selected.
        Interrupted: the observer asked to stop; the state was saved.
    """
    programs = programs or Programs(task, devices or Devices())
    devices = programs.devices
    # Where nobody looks and nothing is chosen, only the last epoch is validated.
    validated = observer or checkpoints or plan.select == "best" or plan.patience
    observer = observer or Observer()
    train, validation = splits["train"], splits["validation"]
    count = len(train["labels"])
    batch_size = min(plan.batch_size, count)
    steps = -(-count // batch_size)
    order = Batches(task, train["inputs"], plan, devices)

    feed = Feed(task, train, plan, devices)
    traced = devices.replicate(jax.tree.map(np.float32, hparams))
    start = programs.start(np.asarray(train["inputs"][:1]), traced, np.uint32(plan.seed))
    progress = devices.replicate(start)
    restored = checkpoints.restore(progress) if checkpoints else None
    progress, meta = restored or (progress, {"seconds": 0.0})

    at_once = devices.one_program and not feed.streams
    longest = _PROGRAM_STEPS if at_once else _CALLED_STEPS
    clock = _Clock(meta["seconds"])
    done = int(progress.state.step)
    saved = done if restored else None
    observer.start(saved)

    def save() -> None:
        nonlocal saved
        if checkpoints and done != saved:
            require_finite()
            checkpoints.save(done, progress, {"seconds": clock.total()})
            saved = done

    def require_finite() -> None:
        bad_step = int(progress.totals["bad_step"])
        if bad_step >= 0:
            raise diverged(f"the loss is {_NOT_FINITE} at step {bad_step}", hparams, checkpoints)
        if not programs.all_finite(progress.state.params):
            raise diverged(f"a parameter is {_NOT_FINITE} after step {done}", hparams, checkpoints)

    while done < plan.epochs * steps and not _exhausted(progress.best, done // steps, plan):
        epoch, within = divmod(done, steps)
        rows, weights, sizes = order.batches(epoch)
        if programs.calibrate and not within:
            sample = feed.sample(task.calibration_examples, done)
            state = programs.calibrate(progress.state, sample, traced)
            progress = progress.replace(state=devices.replicate(state))
        with feed.epoch(epoch, rows, weights, within) as examples:
            while within < steps:
                # A signal or a clock is one process's own: all act on it, or none.
                stop, save_due, report_due = processes.largest(
                    observer.should_stop(),
                    bool(checkpoints and done and checkpoints.due()),
                    clock.report_due(),
                )
                if stop:
                    save()
                    raise Interrupted(done)
                if save_due:
                    save()
                piece = min(steps - within, longest)
                carry = progress.state, progress.totals
                for size, alike in itertools.groupby(sizes[within : within + piece]):
                    for data, chosen, present, count in examples(len(list(alike))):
                        carry = programs.advance(carry, data, chosen, present, traced, count, size)
                        if feed.streams:
                            jax.block_until_ready(carry)  # else their batches pile up
                state, totals = carry
                progress = progress.replace(state=state, totals=totals)
                within, done = within + piece, done + piece
                if report_due:
                    require_finite()
                    observer.progress(epoch, within, steps, accuracy_and_loss(totals))
        require_finite()
        if not validated and done < plan.epochs * steps:
            progress = progress.replace(totals=devices.replicate(no_totals()))
            continue
        totals, params = jax.device_get(progress.totals), progress.state.params
        _, held_out = programs.evaluate(params, traced, {"validation": validation})["validation"]
        if not np.isfinite(held_out["loss"]):
            raise diverged(
                f"the validation loss is {_NOT_FINITE} after step {done}", hparams, checkpoints
            )
        now = np.int32(epoch + 1), np.float32(held_out["accuracy"]), np.float32(held_out["loss"])
        best = programs.update_best(progress.best, params, *now, ties=plan.ties)
        progress = progress.replace(
            best=devices.replicate(best), totals=devices.replicate(no_totals())
        )
        observer.epoch_end(
            {
                "epoch": epoch + 1,
                "step": done,
                "train": accuracy_and_loss(totals),
                "validation": {name: held_out[name] for name in ("accuracy", "loss")},
                "seconds": round(clock.total(), 3),
            }
        )
    save()
    epochs = done // steps
    chosen_best = plan.select == "best"
    return Fitted(
        params=progress.best.params if chosen_best else progress.state.params,
        selected_epoch=int(progress.best.epoch) if chosen_best else epochs,
        epochs=epochs,
        seconds=clock.total(),
    )


def _is_small(params: Any) -> bool:
    return sum(leaf.size for leaf in jax.tree.leaves(params)) <= _FEW_PARAMETERS


def _exhausted(best: Best, epoch: int, plan: Plan) -> bool:
    return plan.patience is not None and epoch - int(best.epoch) >= plan.patience


def diverged(what: str, hparams: Hparams, checkpoints: Checkpoints | None = None) -> Diverged:
    """The error that says ``what`` was found, what is saved, and what may help."""
    saved = checkpoints.latest() if checkpoints else None
    kept = "nothing was saved"
    if saved is not None:
        kept = f"the last good checkpoint is step {saved} in {checkpoints.directory}"
    rate = getattr(hparams, "learning_rate", None)
    return Diverged(
        f"{what}; {kept}; try a lower config.hparams.learning_rate (now {rate}) or check the inputs"
    )


class _Clock:
    """Seconds of training, those before a resume included, and when to report."""

    def __init__(self, before: float):
        self._start = time.perf_counter() - before
        self._reported = time.perf_counter()

    def total(self) -> float:
        return time.perf_counter() - self._start

    def report_due(self) -> bool:
        now = time.perf_counter()
        due = now - self._reported >= _SECONDS_BETWEEN_REPORTS
        if due:
            self._reported = now
        return due
