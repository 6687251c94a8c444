"""Jobs: trials of an experiment that a process trains on its own, by one program."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

from cnnjax import config as configuration
from cnnjax.config import Config
from cnnjax.data import DataSet, divide, load
from cnnjax.experiment import record
from cnnjax.experiment.places import Places
from cnnjax.experiment.provenance import command, provenance
from cnnjax.experiment.trial import Trainer, open_trainer
from cnnjax.sweeps.chunks import Together, outcomes
from cnnjax.sweeps.rows import Row
from cnnjax.sweeps.trials import Trial, shared
from cnnjax.training import Devices


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process is asked to do; it can be pickled.

    Attributes:
        module: the name of the experiment's module.
        trials: to be trained; they share a program.
        places: data directories; their workdir is not used.
        parallel: how devices are used, as in :class:`cnnjax.training.Devices`.
        together: whether and how trials are trained in one program.
        trained_rows: as of :class:`~cnnjax.experiment.trial.Trainer`; by default the trials'.
    """

    module: str
    trials: tuple[Trial, ...]
    places: Places
    parallel: str = "auto"
    together: Together = dataclasses.field(default_factory=Together)
    trained_rows: tuple[int, ...] | None = None

    def parts(self, trials: Iterable[Trial], size: int | None) -> list["Job"]:
        """This job for those of its trials that are among ``trials``, ``size`` of them in each."""
        wanted = {trial.id for trial in trials}
        left = [trial for trial in self.trials if trial.id in wanted]
        size = size or max(len(left), 1)
        firsts = range(0, len(left), size)
        return [
            dataclasses.replace(self, trials=tuple(left[first : first + size])) for first in firsts
        ]


def run_job(job: Job) -> Iterator[Row]:
    """Train the trials of a job; the row of each, as soon as there is one.

    Raises:
        UserError: as :func:`open_data`.
    """
    _, trainer = open_data(job)
    rows = train_rows(trainer, job.trials, job.together)
    for trial, row in zip(job.trials, rows, strict=True):
        yield row | {"command": command_of(job.module, trial.config, job.places)}


def train_rows(trainer: Trainer, trials: Sequence[Trial], together: Together) -> Iterator[Row]:
    """The row of each trial, as soon as there is one."""
    found = outcomes(trainer, [trial.config for trial in trials], together)
    for trial, outcome in zip(trials, found, strict=True):
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


def open_data(job: Job) -> tuple[DataSet, Trainer]:
    """Load the data of a job's trials, and open their trainer.

    Raises:
        UserError: data that is missing or defective, or that the task cannot take.
    """
    configs = () if job.trained_rows is not None else [trial.config for trial in job.trials]
    first = shared(job.trials[0].config)
    return _open(job.module, first, tuple(configs), job.places, job.parallel, job.trained_rows)


@functools.lru_cache(maxsize=1)  # a process keeps the data and the programs of its last job
def _open(
    module: str,
    first: Config,
    configs: tuple[Config, ...],
    places: Places,
    parallel: str,
    trained_rows: tuple[int, ...] | None,
) -> tuple[DataSet, Trainer]:
    experiment = record.of_module(module)
    dataset = _load(first.dataset, places.data_dir, places.manual_dir)
    spec = divide(dataset, first, experiment.divide).spec
    trainer = open_trainer(
        experiment, first, dataset, spec, Devices(parallel), places.data_dir,
        configs=configs, trained_rows=trained_rows,
    )  # fmt: skip
    return dataset, trainer


_load = functools.lru_cache(maxsize=1)(load)


def command_of(module: str, config: Config, places: Places) -> str:
    """The command line that runs this configuration alone."""
    default = configuration.defaults(config)
    flags = [f"--experiment={module.rpartition('.')[2]}"]
    for path, leaf in configuration.settings(config).items():
        if leaf.value != default[path]:
            flags.append(f"--config.{path}={configuration.to_text(leaf.value)}")
    for name in ("data_dir", "manual_dir"):
        if getattr(places, name):
            flags.append(f"--{name}={getattr(places, name)}")
    return command(flags)
