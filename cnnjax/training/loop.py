"""Training from the first step, or the last checkpoint, to the selected parameters."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.data.dataset import Split
from cnnjax.runtime import processes
from cnnjax.training.batches import Batches
from cnnjax.training.calling import Variables
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.training.checks import require_labels, require_sound
from cnnjax.training.devices import STEPS_A_CALL, Devices
from cnnjax.training.evaluation import accuracy_and_loss
from cnnjax.training.feed import Examples, Feed
from cnnjax.training.observer import Interrupted, Observer, diverged
from cnnjax.training.plan import Plan
from cnnjax.training.programs import Programs
from cnnjax.training.progress import no_totals
from cnnjax.training.sparse.buckets import Bucket
from cnnjax.training.task import Hparams, Task

# Steps between looks at the stop request and the clock: where steps are calls, and where they are
# one program.  Whole calls: a run that was resumed consists of the same ones.
_CALLED_STEPS, _PROGRAM_STEPS = 4 * STEPS_A_CALL, 1024
_SECONDS_BETWEEN_REPORTS = 0.5
_NOT_FINITE = "infinite or not a number"


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The result of a training.

    Attributes:
        variables: the selected parameters, and the model's other collections as they were then.
        selected_epoch: after which epoch (1, 2, ...) they were taken.
        epochs: how many were trained.
        seconds: it took, those before a resume included.
    """

    variables: Variables
    selected_epoch: int
    epochs: int
    seconds: float

    @property
    def params(self) -> Any:
        """The parameters among the variables."""
        return self.variables["params"]


def fit(
    task: Task,
    splits: Mapping[str, Split],
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
        task: the model with its loss and its optimiser.
        splits: "train" and "validation", each with "inputs" and "labels"; where nothing is selected
            by it, validation may be left out.
        hparams: a pytree of numbers, as a ``flax.struct.dataclass``.
        plan: epochs, batch size, seed, selection.
        devices: where and in which way; by default all devices there are.
        programs: compiled before for this task (and its devices), to be shared with other
            trainings; by default made for this one.
        checkpoints: where the run is saved and, if it was before, resumed.
        observer: is told how it goes and may end it.

    Returns:
        The selected parameters.

    Raises:
        UserError: a task, data or hyperparameters that cannot be trained (:mod:`.checks`); nothing
            has been compiled then.
        Diverged: the loss or the parameters became infinite or NaN; names the step and the last
            checkpoint.  Nothing that is not finite is ever saved or selected.
        Interrupted: the observer asked to stop; the state was saved.
    """
    programs = programs or Programs(task, devices or Devices())
    training = _Training(task, splits, hparams, plan, programs, checkpoints, observer)
    training.resume()
    for epoch in training.epochs_left():
        training.calibrate()
        for piece in training.pieces(epoch):
            training.advance(piece)
        training.validate(epoch)
    training.save()
    return training.result()


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Some steps between two looks around: their examples, and the bucket of each one's batch."""

    examples: Examples
    buckets: Sequence[Bucket | None]


class _Training:
    """One training on its way: what it has reached, and the single things that are done to it."""

    def __init__(
        self,
        task: Task,
        splits: Mapping[str, Split],
        hparams: Hparams,
        plan: Plan,
        programs: Programs,
        checkpoints: Checkpoints | None,
        observer: Observer | None,
    ):
        require_sound(task, splits, hparams, plan)
        require_labels(splits, programs.classes(splits["train"]["inputs"], hparams))
        self._task, self._plan, self._hparams = task, plan, hparams
        self._programs, self._devices = programs, programs.devices
        self._checkpoints, self._observer = checkpoints, observer or Observer()
        # Where nobody looks and nothing is chosen, only the last epoch is validated.
        self._every_epoch = bool(observer or checkpoints or plan.select == "best" or plan.patience)
        self._validation = splits.get("validation")
        train = splits["train"]
        self._batches = Batches(task, train["inputs"], plan, self._devices)
        self._feed = Feed(task, train, plan, self._devices)
        at_once = self._devices.one_program and not self._feed.streams
        self._longest = _PROGRAM_STEPS if at_once else _CALLED_STEPS
        self._traced = self._devices.replicate(jax.tree.map(np.float32, hparams))
        start = programs.start(np.asarray(train["inputs"][:1]), self._traced, np.uint32(plan.seed))
        self._progress = self._devices.replicate(start)
        self._steps = self._batches.steps  # of an epoch
        self._done, self._saved = 0, None  # steps
        self._clock = _Clock(0.0)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        restored = self._checkpoints.restore(self._progress) if self._checkpoints else None
        if restored:
            self._progress, meta = restored
            self._done = self._saved = int(self._progress.state.step)
            self._clock = _Clock(meta["seconds"])
        self._observer.start(self._saved)

    def epochs_left(self) -> Iterator[int]:
        """The epochs (0, 1, ...) that are to be trained, the first perhaps from its middle."""
        while self._done < self._plan.epochs * self._steps and not self._exhausted():
            yield self._done // self._steps

    def calibrate(self) -> None:
        """Before an epoch, measure what the optimiser wants to know once a pass."""
        if self._programs.calibrate and self._done % self._steps == 0:
            sample = self._feed.sample(self._task.calibration_examples, self._done)
            state = self._programs.calibrate(self._progress.state, sample, self._traced)
            self._progress = self._progress.replace(state=self._devices.replicate(state))

    def pieces(self, epoch: int) -> Iterator[_Piece]:
        """What is left of an epoch, piece by piece; between them saves, stops and reports.

        Raises:
            Interrupted: the observer asked to stop; the state was saved.
        """
        rows, weights, buckets = self._batches.epoch(epoch)
        first = self._done % self._steps
        with self._feed.epoch(epoch, rows, weights, first) as examples:
            for begin in range(first, self._steps, self._longest):
                report = self._look_around()
                yield _Piece(examples, buckets[begin : begin + self._longest])
                if report:
                    self._require_finite()
                    done = min(begin + self._longest, self._steps)
                    means = accuracy_and_loss(self._progress.totals)
                    self._observer.progress(epoch, done, self._steps, means)

    def advance(self, piece: _Piece) -> None:
        """Take the steps of a piece."""
        carry = self._progress.state, self._progress.totals
        for bucket, alike in itertools.groupby(piece.buckets):
            for data, rows, weights, steps in piece.examples(len(list(alike))):
                carry = self._programs.advance(
                    carry, data, rows, weights, self._traced, steps, bucket
                )
                if self._feed.streams:
                    jax.block_until_ready(carry)  # else their batches pile up
        state, totals = carry
        self._progress = self._progress.replace(state=state, totals=totals)
        self._done += len(piece.buckets)

    def validate(self, epoch: int) -> None:
        """After an epoch: refuse what diverged, keep the best parameters, tell the observer."""
        self._require_finite()
        totals = jax.device_get(self._progress.totals)
        none = self._devices.replicate(no_totals())
        self._progress = self._progress.replace(totals=none)
        if not self._every_epoch and self._done < self._plan.epochs * self._steps:
            return
        row = {"epoch": epoch + 1, "step": self._done, "train": accuracy_and_loss(totals)}
        if self._validation is not None:
            row["validation"] = self._keep_best(epoch + 1)
        self._observer.epoch_end({**row, "seconds": round(self._clock.total(), 3)})

    def save(self) -> None:
        """Save what is not saved yet; nothing that is not finite."""
        if self._checkpoints and self._done != self._saved:
            self._require_finite()
            self._checkpoints.save(self._done, self._progress, {"seconds": self._clock.total()})
            self._saved = self._done

    def result(self) -> Fitted:
        """The selected parameters."""
        state, best = self._progress.state, self._progress.best
        epochs, seconds = self._done // self._steps, self._clock.total()
        if self._plan.select == "best":
            return Fitted(best.variables, int(best.epoch), epochs, seconds)
        return Fitted(state.variables, epochs, epochs, seconds)

    def _keep_best(self, epoch: int) -> dict[str, float]:
        """Measure on the validation split, and keep the variables if they are the best so far."""
        assert self._validation is not None
        variables, splits = self._progress.state.variables, {"validation": self._validation}
        _, means = self._programs.evaluate(variables, self._traced, splits)["validation"]
        if not np.isfinite(means["loss"]):
            raise self._diverged(f"the validation loss is {_NOT_FINITE} after step {self._done}")
        now = np.int32(epoch), np.float32(means["accuracy"]), np.float32(means["loss"])
        before, ties = self._progress.best, self._plan.ties
        best = self._programs.update_best(before, variables, *now, ties=ties)
        self._progress = self._progress.replace(best=self._devices.replicate(best))
        return {name: means[name] for name in ("accuracy", "loss")}

    def _look_around(self) -> bool:
        """Stop or save where that is asked for or due; whether to report after the next steps.

        A signal or a clock is one process's own: all act on it, or none.
        """
        stop, save_due, report_due = processes.largest(
            self._observer.should_stop(),
            bool(self._checkpoints and self._done and self._checkpoints.due()),
            self._clock.report_due(),
        )
        if stop or save_due:
            self.save()
        if stop:
            raise Interrupted(self._done)
        return bool(report_due)

    def _exhausted(self) -> bool:
        """Whether patience has come to its end."""
        patience, epoch = self._plan.patience, self._done // self._steps
        return patience is not None and epoch - int(self._progress.best.epoch) >= patience

    def _require_finite(self) -> None:
        bad_step = int(self._progress.totals["bad_step"])
        if bad_step >= 0:
            raise self._diverged(f"the loss is {_NOT_FINITE} at step {bad_step}")
        if not self._programs.all_finite(self._progress.state.variables):
            raise self._diverged(f"a parameter is {_NOT_FINITE} after step {self._done}")

    def _diverged(self, what: str) -> Exception:
        return diverged(what, self._hparams, self._checkpoints)


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
