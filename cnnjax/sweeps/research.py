"""Sweeps of a user's own task, without flags and without an experiment's file."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cnnjax import config as configuration
from cnnjax.config import Replication
from cnnjax.data.dataset import Split, checksum
from cnnjax.experiment.provenance import provenance
from cnnjax.experiment.trial import Trainer
from cnnjax.sweeps.axes import Changes, Sweep
from cnnjax.sweeps.chunks import Together
from cnnjax.sweeps.directory import SweepDirectory
from cnnjax.sweeps.jobs import train_rows
from cnnjax.sweeps.rows import Row, carry_out
from cnnjax.sweeps.trials import trials_of
from cnnjax.training import Devices, Plan, Task


@dataclasses.dataclass(frozen=True)
class _Config(Replication):
    """What the trials of one task may vary."""


def run(
    task: Task,
    splits: Mapping[str, Split],
    hparams: Any,
    plan: Plan,
    sweep: Sweep,
    *,
    folds: int = 10,
    folder: str | Path | None = None,
    devices: Devices | None = None,
    together: bool | None = None,
    at_once: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Train ``task`` once for every trial of ``sweep``, in this process.

    Args:
        task: what is learned, and how; the same for all trials.
        splits: "train", "validation" and, if it is to be measured, "test": each "inputs" and
            "labels".  Of a trial with a ``fold`` they are all divided anew.
        hparams: those that a trial starts from.
        plan: epochs, batch size and selection of all; its seed where a trial has none.
        sweep: of fields of ``hparams``, ``seed``, ``fold`` and ``fold_seed``, as ``grid`` makes.
        folds: of a cross-validation.
        folder: where rows, tables and pictures go; trials with a row there are not run again.  By
            default nothing is written.
        devices: where; by default all devices there are.
        together: in one program, as :class:`~cnnjax.sweeps.chunks.Together` has it.
        at_once: how many; as there.
        say: receives a line for every row, where there is a folder.

    Returns:
        A row for every trial, in their order: "changes", "status", "message", and of a finished
        one "test", "validation" and "train" with "accuracy", "loss" and "count".

    Raises:
        UserError: a field or a fold that does not exist, a value that it cannot have, or a folder
            that holds something else.
    """
    base = _Config(hparams=hparams, seed=plan.seed, folds=folds)
    trials = trials_of(base, tuple(map(_with_paths, sweep)))
    configs = [trial.config for trial in trials]
    trainer = Trainer(task, splits, plan, devices or Devices(), configs=configs)
    for config in configs:
        trainer.rows(config)  # refuses folds that do not exist
    train = functools.partial(train_rows, trainer, together=Together(together, at_once))
    if folder is None:
        return list(train(trials))
    description = {
        "experiment": type(task.model).__name__,
        "sweep": [],
        "config": configuration.to_dict(base) | {"plan": dataclasses.asdict(plan)},
        "trials": [dict(trial.changes) for trial in trials],
        "baseline": None,
        "data": {"splits": checksum(*(a for split in splits.values() for a in split.values()))},
        **provenance(),
    }
    return carry_out(SweepDirectory(folder), description, trials, train, say)


def _with_paths(changes: Changes) -> Changes:
    """Names of ``hparams``'s fields as paths of the configuration."""
    own = {*configuration.REPLICATES, *(path for path in changes if path.startswith("hparams."))}
    return {path if path in own else f"hparams.{path}": value for path, value in changes.items()}
