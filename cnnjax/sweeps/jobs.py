"""Jobs: trials of an experiment that a process trains on its own, by one program."""

import dataclasses
import functools
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from cnnjax import config as configuration
from cnnjax.data import DataSet, data_folder, divide, load
from cnnjax.experiment.run import Places, division_of, task_to_train
from cnnjax.experiment.run_directory import command, source_revision, versions
from cnnjax.sweeps.outcomes import Trainer
from cnnjax.sweeps.rows import Row
from cnnjax.sweeps.trials import Trial, shared
from cnnjax.training import Devices


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process is asked to do; it can be pickled.

    Attributes:
        experiment: its name.
        module: the name of its module.
        trials: that share a program.
        places: data directories, and how devices are used; their workdir is not used.
        together, at_once: as in :class:`~cnnjax.sweeps.outcomes.Trainer`.
    """

    experiment: str
    module: str
    trials: tuple[Trial, ...]
    places: Places
    together: bool | None = None
    at_once: int | None = None


def run_job(job: Job) -> Iterator[Row]:
    """Train the trials of a job; the row of each, as soon as there is one.

    Raises:
        UserError: as :func:`open_bench`.
    """
    config = shared(job.trials[0].config)
    _, trainer = open_bench(job.module, config, job.places, job.together, job.at_once)
    for trial, row in zip(job.trials, train_rows(trainer, job.trials), strict=True):
        yield row | {"command": command_of(job.experiment, trial.config, job.places)}


def train_rows(trainer: Trainer, trials: Sequence[Trial]) -> Iterator[Row]:
    """The row of each trial, as soon as there is one."""
    outcomes = trainer.train([trial.config for trial in trials])
    for trial, outcome in zip(trials, outcomes, strict=True):
        yield {
            "trial": trial.number,
            "id": trial.id,
            "changes": dict(trial.changes),
            "config": configuration.to_dict(trial.config),
            **dataclasses.asdict(outcome),
            "devices": trainer.devices.describe(),
            **provenance(),
            "command": None,
        }


@functools.lru_cache(maxsize=1)  # a process keeps the data and the programs of its last job
def open_bench(
    module: str,
    config: Any,
    places: Places,
    together: bool | None = None,
    at_once: int | None = None,
) -> tuple[DataSet, Trainer]:
    """Load the data and make the task of ``config``, which all trials of a job share.

    Raises:
        UserError: data that is missing or defective, or that the task cannot take.
    """
    experiment = importlib.import_module(module)
    dataset = _load(config.dataset, places.data_dir, places.manual_dir)
    division = division_of(experiment)
    trainer = Trainer(
        task_to_train(experiment, config, divide(dataset, config, division).spec, places),
        dataset.splits,
        experiment.plan(config),
        Devices(places.parallel),
        division=division,
        together=together,
        at_once=at_once,
        folder=data_folder(places.data_dir),
    )
    return dataset, trainer


_load = functools.lru_cache(maxsize=1)(load)


@functools.cache
def provenance() -> dict[str, Any]:
    """By what this process trains: "versions" and "source"."""
    return {"versions": versions(), "source": source_revision()}


def command_of(experiment: str, config: Any, places: Places) -> str:
    """The command line that runs this configuration alone."""
    default = configuration.settings(type(config)())
    flags = [f"--experiment={experiment}"]
    for path, leaf in configuration.settings(config).items():
        if leaf.value != default[path].value:
            flags.append(f"--config.{path}={configuration.to_text(leaf.value)}")
    for name in ("data_dir", "manual_dir"):
        if getattr(places, name):
            flags.append(f"--{name}={getattr(places, name)}")
    return command(flags)
