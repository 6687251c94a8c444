"""What an experiment is: one record, which a file in ``experiments/`` exports as ``EXPERIMENT``."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cnnjax import config as configuration
from cnnjax.data import DataSet, Division, Spec, cross_validation
from cnnjax.errors import ArgumentError, UserError, reason
from cnnjax.training import Plan, Task

EXPORT = "EXPERIMENT"
"""The name under which a module has its experiment."""

Sweep = tuple[dict[str, Any], ...]
"""Trials, each the changes that it makes to the configuration (:mod:`cnnjax.sweeps.axes`)."""


def _nothing(*arguments: Any) -> Sequence[Any]:
    del arguments
    return ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that the command line, sweeps and reports know of an experiment.

    The functions are given an instance of ``config``.  The task must be the same for every seed,
    fold and value of a number in ``hparams``: a sweep trains them all by one program.

    Attributes:
        summary: one line for the list of experiments.
        config: the class of its configurations, a frozen dataclass on
            :class:`cnnjax.config.Config` whose fields all have defaults.
        plan: ``config -> Plan``.
        task: ``(config, spec of the data) -> Task``; refuses data that it cannot take by a
            UserError.
        sweeps: named sweeps.
        divide: ``(config, labels of all examples, splits) -> rows of each split``.
        initial: ``(config, spec, data directory) -> values`` that variables start from
            (:attr:`cnnjax.training.Task.initial`), which it may keep in the data directory.
        remarks: ``(config, data set) -> lines`` to be said before training.
        report: ``(rows, folder) -> files`` that it adds to the report of a sweep.
        name: of its file; set when it is loaded.
        module: that it is from, by which other processes find it; set when it is loaded.
        details: the module's docstring; set when it is loaded.
    """

    summary: str
    config: type[configuration.Config]
    plan: Callable[[Any], Plan]
    task: Callable[[Any, Spec], Task]
    sweeps: Mapping[str, Sweep] = dataclasses.field(default_factory=dict[str, Sweep])
    divide: Division = cross_validation
    initial: Callable[[Any, Spec, Path], Mapping[str, np.ndarray]] | None = None
    remarks: Callable[[Any, DataSet], Sequence[str]] = _nothing
    report: Callable[[Sequence[Mapping[str, Any]], Path], Sequence[Path]] = _nothing
    name: str = ""
    module: str = ""
    details: str = ""

    def __post_init__(self) -> None:
        if problem := configuration.problem_of(self.config):
            raise UserError(f"config: {problem}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("plan", "task", "divide", "remarks", "report"):
                fits, wanted = callable(value), "a function"
            elif field.name == "initial":
                fits, wanted = value is None or callable(value), "a function, or None"
            elif field.name == "sweeps":
                fits, wanted = isinstance(value, Mapping), "a dict of sweeps by name"
            elif field.name == "config":
                continue
            else:
                fits, wanted = isinstance(value, str), "a text"
            if not fits:
                raise UserError(f"{field.name} is {value!r}; it must be {wanted}")


def names(package: ModuleType) -> list[str]:
    """The names of the experiments in a package: those of its modules."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(package: ModuleType, name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        UserError: there is none, or its file is not finished; names what is missing there.
    """
    if name not in names(package):
        raise ArgumentError(
            "experiment", name, f"there is none; valid: {', '.join(names(package))}"
        )
    return of_module(f"{package.__name__}.{name}")


def of_module(module: str) -> Experiment:
    """The experiment of a module, by the module's name.

    Raises:
        UserError: the file cannot be imported, or has no sound experiment.
    """
    name = module.rpartition(".")[2]
    try:
        found = importlib.import_module(module)
    except Exception as error:  # somebody's unfinished file may raise anything
        kind = type(error).__name__
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{name}.py{place}: cannot be imported ({kind}: {reason(error)})") from None
    experiment = getattr(found, EXPORT, None)
    if not isinstance(experiment, Experiment):
        has = "has none" if experiment is None else f"has a {type(experiment).__name__}"
        raise UserError(
            f"{found.__file__}: {has}; it must end in {EXPORT} = Experiment(summary=..., "
            f"config=..., plan=..., task=...)"
        )
    return dataclasses.replace(
        experiment, name=name, module=module, details=(found.__doc__ or experiment.summary).strip()
    )
