"""One training, measured: what a run does in its folder, and a sweep for each of its rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from cnnjax.config import Config
from cnnjax.data import DataSet, Division, Rows, Spec, cross_validation, data_folder
from cnnjax.data.dataset import Split
from cnnjax.data.folds import pool
from cnnjax.experiment.record import Experiment
from cnnjax.training import Devices, Fitted, Observer, Plan, Programs, Task, fit
from cnnjax.training.calling import Variables
from cnnjax.training.checkpoints import Checkpoints
from cnnjax.transfer.precomputed import precompute


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a trial: the figures in result.json and in a sweep's row.

    Attributes:
        status: whether it was trained to its end, became infinite or NaN, or ended in an error.
        message: why it was not finished, in one line.
        train: "accuracy", "loss" and "count" of the selected parameters on this split.
        validation: the same.
        test: the same.
        parameters: how many the model has.
        epochs: how many were trained.
        selected_epoch: after which of them (1, 2, ...) the parameters were taken.
        seconds: of training; of trials in one program each one's share.
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


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished trial.

    Attributes:
        outcome: its figures.
        variables: of the whole model, on the host.
        logits: split -> float32[N, K], what it answers.
    """

    outcome: Outcome
    variables: Variables
    logits: Mapping[str, np.ndarray]


class Trainer:
    """One task on one copy of its data, ready to train every configuration that shares its program.

    Of a configuration ``hparams`` and ``seed`` are read, and what ``division`` divides the examples
    by: ``fold``, ``folds`` and ``fold_seed``, unless it is another.

    Args:
        task: the model with its loss and its optimiser.
        splits: "train", "validation" and, if it is to be measured, "test", each with "inputs"
            [N, ...] and "labels" int32[N].
        plan: the plan of all configurations; its seed is not used.
        devices: those that compute, and the way in which they share a batch.
        division: of all examples anew, as a configuration says.
        configs: those that will be trained, if they are known.
        trained_rows: of which examples more than the plain view is precomputed, where a part of the
            model is frozen; by default those that ``configs`` train on, or all.
        folder: data directory, where features of a frozen part of the model are kept; by default
            they are not.

    Attributes:
        task: on the features of the frozen part, where there is one.
        initial: the values that all start from (:class:`cnnjax.training.Task`).
        labels: int32[N] of all examples.
        trained_rows: as given or found; None where it makes no difference.
        programs: that all share.
    """

    def __init__(
        self,
        task: Task,
        splits: Mapping[str, Split],
        plan: Plan,
        devices: Devices,
        *,
        division: Division = cross_validation,
        configs: Sequence[Any] = (),
        trained_rows: Sequence[int] | None = None,
        folder: Path | None = None,
    ):
        everything, self._own_rows = pool(splits)
        self.initial, self.labels = task.initial, everything["labels"]
        self.plan, self.devices, self._division = plan, devices, division
        if trained_rows is None and configs and task.frozen and task.frozen.stored_views > 1:
            seen = [self.rows(config)["train"] for config in configs]
            trained_rows = np.unique(np.concatenate(seen)).tolist()
        self.trained_rows = trained_rows and tuple(trained_rows)
        rows = None if trained_rows is None else np.asarray(trained_rows)
        self._precomputed = precompute(
            task, everything["inputs"], devices, folder, trained_rows=rows
        )
        self.task = self._precomputed.task
        self.programs = Programs(self.task, devices)

    def rows(self, config: Any) -> Rows:
        """Which of all examples each split of a configuration has: split -> int64[n].

        Raises:
            UserError: a configuration that does not fit the data, as a fold that does not exist.
        """
        rows = self._division(config, self.labels, self._own_rows)
        return self._own_rows if rows is None else rows

    def data(self) -> Split:
        """All examples, as the task takes them: what trials in one program share."""
        return {"inputs": self._precomputed.everything(), "labels": self.labels}

    def splits(self, config: Any) -> dict[str, Split]:
        """The splits of a configuration, as the task takes them."""
        return {
            name: {
                "inputs": self._precomputed.inputs(rows, trained=name == "train"),
                "labels": self.labels[rows].astype(np.int32),
            }
            for name, rows in self.rows(config).items()
        }

    def measure(self, config: Any, fitted: Fitted) -> Trained:
        """The figures of the selected parameters on every split."""
        measured = self.programs.evaluate(fitted.variables, config.hparams, self.splits(config))
        variables = self._precomputed.whole(jax.device_get(fitted.variables))
        figures: dict[str, Any] = {split: means for split, (_, means) in measured.items()}
        outcome = Outcome(
            "finished",
            **figures,
            parameters=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
            epochs=fitted.epochs,
            selected_epoch=fitted.selected_epoch,
            seconds=round(fitted.seconds, 3),
        )
        return Trained(outcome, variables, {name: logits for name, (logits, _) in measured.items()})


def train_trial(
    trainer: Trainer,
    config: Any,
    *,
    checkpoints: Checkpoints | None = None,
    observer: Observer | None = None,
) -> Trained:
    """Train one configuration, and measure what came out.

    Args:
        trainer: of its task.
        config: one that shares the trainer's program.
        checkpoints, observer: as of :func:`cnnjax.training.fit`.

    Raises:
        Diverged, Interrupted: as :func:`cnnjax.training.fit`.
    """
    plan = dataclasses.replace(trainer.plan, seed=config.seed)
    fitted = fit(
        trainer.task,
        trainer.splits(config),
        config.hparams,
        plan,
        programs=trainer.programs,
        checkpoints=checkpoints,
        observer=observer,
    )
    return trainer.measure(config, fitted)


def open_trainer(
    experiment: Experiment,
    config: Config,
    dataset: DataSet,
    spec: Spec,
    devices: Devices,
    data_dir: Path | None = None,
    *,
    keep: bool = True,
    **rows: Any,
) -> Trainer:
    """The trainer of an experiment's configurations that share a program.

    Args:
        experiment: whose task it is.
        config: one of them.
        dataset: not yet divided as a configuration says.
        spec: of a configuration's training split.
        devices: those that compute, and the way in which they share a batch.
        data_dir: as in :func:`cnnjax.data.load`.
        keep: features of a frozen part of the model in the data directory.
        rows: ``configs`` and ``trained_rows`` of :class:`Trainer`.

    Raises:
        UserError: data or weights that the task cannot take.
    """
    folder = data_folder(data_dir)
    return Trainer(
        task_of(experiment, config, spec, folder),
        dataset.splits,
        experiment.plan(config),
        devices,
        division=experiment.divide,
        folder=folder if keep else None,
        **rows,
    )


def task_of(experiment: Experiment, config: Config, spec: Spec, folder: Path) -> Task:
    """The experiment's task, with the values that it lets variables start from.

    Raises:
        UserError: what the experiment finds wrong.
    """
    task = experiment.task(config, spec)
    if experiment.initial is None:
        return task
    return dataclasses.replace(task, initial=experiment.initial(config, spec, folder))
