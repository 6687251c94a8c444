"""What becomes of trials that share a task: trained together or one after another."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from cnnjax.data.dataset import Split, take
from cnnjax.data.folds import Division, cross_validation, pool
from cnnjax.errors import reason
from cnnjax.training import Devices, Plan, Programs, Task, fit
from cnnjax.training.feed import is_streamed
from cnnjax.training.loop import Diverged, Fitted
from cnnjax.training.trials import Rows, TrialPrograms, fit_trials, how_many_fit
from cnnjax.transfer.precomputed import precompute


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trial's row says of its result.

    Attributes:
        status: whether it was trained to its end, became infinite or NaN, or ended in an error.
        message: why it was not finished, in one line.
        train, validation, test: "accuracy", "loss" and "count" of the selected parameters.
        parameters, epochs, selected_epoch: as in a run's result.json.
        seconds: of training; of trials trained together its share.
    """

    status: Literal["finished", "diverged", "failed"]
    message: str | None = None
    train: Mapping[str, float] | None = None
    validation: Mapping[str, float] | None = None
    test: Mapping[str, float] | None = None
    parameters: int | None = None
    epochs: int | None = None
    selected_epoch: int | None = None
    seconds: float | None = None


class Trainer:
    """One task on one copy of its data, ready to train any of its variations.

    A variation is a configuration, of which ``hparams`` and ``seed`` are read and what ``division``
    divides the examples by: ``fold``, ``folds`` and ``fold_seed``, unless it is another.

    Args:
        task: what is learned, and how.
        splits: "train", "validation" and, if it is to be measured, "test", each with "inputs"
            [N, ...] and "labels" int32[N].
        plan: for all variations; its seed is not used.
        devices: where.
        division: of all examples anew, as a variation says.
        together: train variations in one program instead of one after another by the same
            programs; by default on accelerators, which a small network leaves idle.  On CPU the
            working set of many leaves the cache, and kernels of their own make a convolution a
            slow, grouped one.  Never where inputs are streamed (:mod:`cnnjax.training.feed`).
        at_once: how many variations one program trains; by default as many as fit into memory.
        folder: data directory, where features of a fixed part of the model are kept.

    Attributes:
        initial: the values that all variations start from (:class:`cnnjax.training.Task`).
    """

    def __init__(
        self,
        task: Task,
        splits: Mapping[str, Split],
        plan: Plan,
        devices: Devices,
        *,
        division: Division = cross_validation,
        together: bool | None = None,
        at_once: int | None = None,
        folder: Path | None = None,
    ):
        self.initial = task.initial
        everything, self._rows = pool(splits)
        once = precompute(task, {"all": everything}, devices, folder)
        task, self._data, self._whole = once.task, once.splits["all"], once.whole
        self._task, self._plan, self.devices = task, plan, devices
        self._at_once = at_once
        self._division = division
        self._programs = Programs(task, devices)
        self._programs_together: TrialPrograms | None = None
        wanted = devices.platform != "cpu" if together is None else together
        self._together = wanted and not is_streamed(task, self._data["inputs"])

    def rows(self, config: Any) -> Rows:
        """Which of all examples each split of a variation has: split -> int64[n].

        Raises:
            UserError: a variation that does not fit the data, as a fold that does not exist.
        """
        rows = self._division(config, self._data["labels"], self._rows)
        return self._rows if rows is None else rows

    def train(self, configs: Sequence[Any]) -> Iterator[Outcome]:
        """The outcome of each variation, in order and as soon as there is one.

        An error in the middle ends the variations that it met; the others go on.
        """
        size = self._chunk_size(configs) if self._together and configs else 1
        for _, alike in itertools.groupby(configs, self._training_rows):
            alike = list(alike)
            for first in range(0, len(alike), size):
                yield from self._train_chunk(alike[first : first + size])

    def _training_rows(self, config: Any) -> int:
        """How many there are: equally many in a program, where trials are trained together."""
        return len(self.rows(config)["train"]) if self._together else 0

    def _chunk_size(self, configs: Sequence[Any]) -> int:
        most = self._at_once
        if most is None:
            hparams = configs[0].hparams
            fitting = how_many_fit(self._task, self._data["inputs"], hparams, self._plan)
            most = fitting * len(self.devices.devices)
        chunks = -(-len(configs) // most)
        return -(-len(configs) // chunks)  # all about equally large: one program serves them

    def _train_chunk(self, configs: Sequence[Any]) -> Iterator[Outcome]:
        fit_chunk = self._fit_together if self._together else self._fit_alone
        try:
            fitted = fit_chunk(configs)
            outcomes = [self._outcome(*pair) for pair in zip(configs, fitted, strict=True)]
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error) and len(configs) > 1:
                self._programs_together = None  # they are as large as before
                half = len(configs) // 2
                yield from self._train_chunk(configs[:half])
                yield from self._train_chunk(configs[half:])
                return
            outcomes = [Outcome("failed", reason(error))] * len(configs)
        yield from outcomes

    def _fit_together(self, configs: Sequence[Any]) -> list[Fitted | Diverged]:
        programs = self._programs_together
        if programs is None or programs.trials < len(configs):
            programs = TrialPrograms(self._task, self._plan, self.devices, len(configs))
            self._programs_together = programs
        return fit_trials(
            self._task,
            self._data,
            [self.rows(config) for config in configs],
            [config.hparams for config in configs],
            [config.seed for config in configs],
            self._plan,
            programs=programs,
        )

    def _fit_alone(self, configs: Sequence[Any]) -> list[Fitted | Diverged]:
        (config,) = configs
        rows = self.rows(config)
        splits = {name: self._split(rows[name]) for name in ("train", "validation")}
        plan = dataclasses.replace(self._plan, seed=config.seed)
        try:
            return [fit(self._task, splits, config.hparams, plan, programs=self._programs)]
        except Diverged as error:
            return [error]

    def _outcome(self, config: Any, fitted: Fitted | Diverged) -> Outcome:
        if isinstance(fitted, Diverged):
            return Outcome("diverged", str(fitted))
        splits = {name: self._split(rows) for name, rows in self.rows(config).items()}
        measured = self._programs.evaluate(fitted.params, config.hparams, splits)
        return Outcome(
            "finished",
            **{split: means for split, (_, means) in measured.items()},
            parameters=sum(leaf.size for leaf in jax.tree.leaves(self._whole(fitted.params))),
            epochs=fitted.epochs,
            selected_epoch=fitted.selected_epoch,
            seconds=round(fitted.seconds, 3),
        )

    def _split(self, rows: np.ndarray) -> Split:
        return take(self._data["inputs"], self._data["labels"], rows)
