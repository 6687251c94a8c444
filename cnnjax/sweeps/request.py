"""Sweeps of an experiment: checked as a whole, then trained by an engine."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import config as configuration
from cnnjax.config import Config
from cnnjax.data.dataset import checksum
from cnnjax.errors import UserError
from cnnjax.experiment.places import Execution, Places
from cnnjax.experiment.provenance import provenance
from cnnjax.experiment.record import Experiment
from cnnjax.sweeps.chunks import Together
from cnnjax.sweeps.directory import SweepDirectory, default_path
from cnnjax.sweeps.engines import Engine
from cnnjax.sweeps.jobs import Job, open_data
from cnnjax.sweeps.rows import Row, Say, carry_out, counted
from cnnjax.sweeps.trials import Trial, groups, label_of


@dataclasses.dataclass(frozen=True)
class Request:
    """A sweep as it was asked for.

    Attributes:
        experiment: whose configurations they are.
        config: the configuration that every trial starts from.
        trials: of the sweep.
        baseline: values of the setting that the others are compared with, if one is named.
        texts: of the ``--sweep`` flags.
        argv: of the command line.
    """

    experiment: Experiment
    config: Config
    trials: Sequence[Trial]
    baseline: Mapping[str, Any] | None = None
    texts: Sequence[str] = ()
    argv: Sequence[str] = ()

    def description(self) -> dict[str, Any]:
        """The content of sweep.json, but for the data's checksums."""
        return {
            "experiment": self.experiment.name,
            "sweep": list(self.texts),
            "config": configuration.to_dict(self.config),
            "trials": [dict(trial.changes) for trial in self.trials],
            "baseline": self.baseline and dict(self.baseline),
            "argv": list(self.argv),
            **provenance(),
        }

    def default_path(self) -> Path:
        """Where the sweep lies unless told otherwise."""
        return default_path(self.experiment.name, self.description())


def plan_text(trials: Sequence[Trial]) -> str:
    """What would run: every trial, under the program that trains it."""
    programs = groups(trials)
    lines = [f"{counted(len(trials), 'trial')} in {counted(len(programs), 'compiled program')}"]
    for number, group in enumerate(programs):
        lines += ["", f"program {number + 1}: {counted(len(group), 'trial')}"]
        lines += [f"  {trial.number:4}  {label_of(trial.changes)}" for trial in group]
    return "\n".join(lines)


def run_sweep(
    request: Request,
    places: Places,
    engine: Engine,
    *,
    execution: Execution | None = None,
    job_size: int | None = None,
    together: Together | None = None,
    say: Say = print,
) -> list[Row]:
    """Train the trials that have no row yet, and write the report of all.

    Args:
        request: what to run.
        places: where; ``workdir`` is the sweep's folder.
        engine: who trains.
        execution: on which devices.
        job_size: trials in a job; by default all that share a program.
        together: whether trials are trained in one program.
        say: receives lines for the user.

    Returns:
        The rows of all trials, in their order.

    Raises:
        UserError: anything wrong with data, configurations or folder; nothing has run then.
    """
    directory = SweepDirectory(places.workdir)
    whole = [
        Job(
            request.experiment.module,
            tuple(group),
            places,
            (execution or Execution()).parallel,
            together or Together(),
        )
        for group in groups(request.trials)
    ]
    jobs, checksums = _check(whole, say)

    def train(trials: Sequence[Trial]) -> Iterator[Row]:
        return engine([part for job in jobs for part in job.parts(trials, job_size)])

    description = request.description() | {"data": checksums}
    return carry_out(directory, description, request.trials, train, say, request.experiment.report)


def _check(jobs: Sequence[Job], say: Say) -> tuple[list[Job], dict[str, str]]:
    """Open every program's data and task and every trial's fold, before anything runs.

    Whatever a user got wrong is found here.

    Returns:
        The jobs, with the rows that their trials are trained on; checksums of data and weights.
    """
    checked, checksums = [], {}
    for job in jobs:
        dataset, trainer = open_data(job)
        for trial in job.trials:
            try:
                trainer.rows(trial.config)
            except UserError as error:
                raise UserError(
                    f"trial {trial.number} ({label_of(trial.changes)}): {error}"
                ) from None
        if dataset.name not in checksums:
            say(dataset.describe())
            checksums[dataset.name] = dataset.provenance["sha256"]
        if initial := trainer.initial:
            given = checksum(*(initial[path] for path in sorted(initial)))
            checksums[f"initial weights of trial {job.trials[0].number}"] = given
        checked.append(dataclasses.replace(job, trained_rows=trainer.trained_rows))
    return checked, checksums
