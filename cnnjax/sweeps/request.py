"""Sweeps of an experiment: checked as a whole, then trained by an engine."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnjax import config as configuration
from cnnjax.data.dataset import checksum
from cnnjax.errors import UserError
from cnnjax.experiment.run import Places
from cnnjax.sweeps.directory import SweepDirectory, default_path
from cnnjax.sweeps.engines import Engine
from cnnjax.sweeps.jobs import Job, open_bench, provenance
from cnnjax.sweeps.rows import Row, Say, carry_out, counted
from cnnjax.sweeps.trials import Trial, groups, label_of, shared


@dataclasses.dataclass(frozen=True)
class Request:
    """A sweep as it was asked for.

    Attributes:
        experiment: its name.
        module: its module.
        config: the configuration that every trial starts from.
        trials: of the sweep.
        baseline: values of the setting that the others are compared with, if one is named.
        texts: of the ``--sweep`` flags.
        argv: of the command line.
    """

    experiment: str
    module: ModuleType
    config: Any
    trials: Sequence[Trial]
    baseline: Mapping[str, Any] | None = None
    texts: Sequence[str] = ()
    argv: Sequence[str] = ()

    def description(self) -> dict[str, Any]:
        """The content of sweep.json, but for the data's checksums."""
        return {
            "experiment": self.experiment,
            "sweep": list(self.texts),
            "config": configuration.to_dict(self.config),
            "trials": [dict(trial.changes) for trial in self.trials],
            "baseline": self.baseline and dict(self.baseline),
            "argv": list(self.argv),
            **provenance(),
        }

    def default_path(self) -> Path:
        """Where the sweep lies unless told otherwise."""
        return default_path(self.experiment, self.description())


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
    job_size: int | None = None,
    together: bool | None = None,
    at_once: int | None = None,
    say: Say = print,
) -> list[Row]:
    """Train the trials that have no row yet, and write the report of all.

    Args:
        request: what to run.
        places: where; ``workdir`` is the sweep's folder.
        engine: who trains.
        job_size: trials in a job; by default all that share a program.
        together, at_once: as in :class:`~cnnjax.sweeps.outcomes.Trainer`.
        say: receives lines for the user.

    Returns:
        The rows of all trials, in their order.

    Raises:
        UserError: anything wrong with data, configurations or folder; nothing has run then.
    """
    directory = SweepDirectory(places.workdir)
    description = request.description() | {"data": _check_trials(request, places, say)}

    def train(trials: Sequence[Trial]) -> Iterator[Row]:
        return engine(_jobs(request, places, trials, job_size, together, at_once))

    own = getattr(request.module, "report", None)
    return carry_out(directory, description, request.trials, train, say, own)


def _check_trials(request: Request, places: Places, say: Say) -> dict[str, str]:
    """Open every program's data and task and every trial's fold; checksums of data and weights.

    Whatever a user got wrong is found here, before anything runs.
    """
    checksums: dict[str, str] = {}
    for group in groups(request.trials):
        config = shared(group[0].config)
        dataset, trainer = open_bench(request.module.__name__, config, places)
        for trial in group:
            try:
                trainer.rows(trial.config)
            except UserError as error:
                raise UserError(
                    f"trial {trial.number} ({label_of(trial.changes)}): {error}"
                ) from None
        if config.dataset not in checksums:
            say(dataset.describe())
            checksums[config.dataset] = dataset.provenance["sha256"]
        if trainer.initial:
            given = (trainer.initial[path] for path in sorted(trainer.initial))
            checksums[f"initial weights of trial {group[0].number}"] = checksum(*given)
    return checksums


def _jobs(
    request: Request,
    places: Places,
    trials: Sequence[Trial],
    size: int | None,
    together: bool | None,
    at_once: int | None,
) -> list[Job]:
    module = request.module.__name__
    return [
        Job(
            request.experiment,
            module,
            tuple(group[first : first + (size or len(group))]),
            places,
            together,
            at_once,
        )
        for group in groups(trials)
        for first in range(0, len(group), size or len(group))
    ]
