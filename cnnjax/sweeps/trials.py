"""Trials: the configurations of a sweep, and which of them share a compiled program."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from cnnjax import config as configuration
from cnnjax.config import Config
from cnnjax.errors import UserError
from cnnjax.sweeps.axes import Changes, Sweep


@dataclasses.dataclass(frozen=True)
class Trial:
    """One configuration of a sweep.

    Attributes:
        number: its position in the sweep.
        changes: what the sweep says of it: dotted path -> value, of the field's type.
        config: the whole configuration.
    """

    number: int
    changes: Mapping[str, Any]
    config: Config

    @property
    def id(self) -> str:
        """A digest of the configuration."""
        text = json.dumps(configuration.to_dict(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def trials_of(config: Config, sweep: Sweep, given: Collection[str] = ()) -> list[Trial]:
    """The trials of ``sweep`` from the configuration ``config``.

    Args:
        config: what all start from.
        sweep: what each changes.
        given: paths of settings of ``config`` that were asked for, which follow no choice.

    Raises:
        UserError: a field that does not exist, a value that it cannot have or that has no effect,
            or two trials that are the same.
    """
    trials = [_trial(config, number, changes, given) for number, changes in enumerate(sweep)]
    first: dict[str, int] = {}
    for trial in trials:
        if (other := first.setdefault(trial.id, trial.number)) != trial.number:
            raise UserError(
                f"trials {other} and {trial.number} of the sweep are the same configuration "
                f"({label_of(trial.changes)})"
            )
    return trials


def _trial(config: Config, number: int, changes: Changes, given: Collection[str]) -> Trial:
    changed = configuration.override(config, changes, keep=given)
    configuration.require_effect(changed, changes)
    leaves = configuration.settings(changed)
    return Trial(number, {path: leaves[path].value for path in changes}, changed)


def label_of(changes: Mapping[str, Any]) -> str:
    """Changes in one line."""
    return " ".join(f"{path}={configuration.to_text(value)}" for path, value in changes.items())


def groups(trials: Iterable[Trial]) -> list[list[Trial]]:
    """``trials`` by the program that trains them, in order of their first."""
    found: dict[Any, list[Trial]] = {}
    for trial in trials:
        found.setdefault(shared(trial.config), []).append(trial)
    return list(found.values())


def shared(config: Config) -> Config:
    """What ``config`` has in common with all that its program can train.

    That is the configuration with ``seed``, the number of the fold and the numbers under
    ``hparams`` at their defaults: they are data of the program, not part of it.  (One whose
    default is None, or that is None, is part of it: None has no place among the data.)
    """
    defaults = configuration.settings(type(config)())
    leaves = configuration.settings(config)
    traced = {
        path: default.value
        for path, default in defaults.items()
        if path in configuration.REPLICATES
        or (path.startswith("hparams.") and _number(default) and _number(leaves[path]))
    }
    if leaves.get("fold") and leaves["fold"].value is not None:
        traced["fold"] = 0
    return configuration.override(config, traced)


def _number(leaf: configuration.Setting) -> bool:
    return isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
