"""The numbers of a sweep: its rows grouped into settings, summarised and compared.

A setting is what a trial changes apart from its seed and folds; the trials that share it are its
replicates.  Everything here depends on which rows there are, never on their order.
"""

import ast
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from cnnjax import config

_ROUNDING = 1e-12  # a spread below this share of the values is rounding, not variance


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation, range and Student-t 95 % interval of the mean.

    What ``count`` values do not define (the spread of one, the mean of none) is None.
    """

    count: int
    mean: float | None = None
    sd: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    low: float | None = None
    high: float | None = None


def summary_of(values: Sequence[float]) -> Summary:
    """The summary of a sample."""
    count = len(values)
    if not count:
        return Summary(0)
    mean, least, most = float(np.mean(values)), float(min(values)), float(max(values))
    if count == 1:
        return Summary(1, mean, None, least, most)
    sd = _sd(values)
    half = float(special.stdtrit(count - 1, 0.975)) * sd / math.sqrt(count)
    return Summary(count, mean, sd, least, most, mean - half, mean + half)


def by_name(
    settings: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]] | None:
    """The rows of each setting: name -> those that change just that, apart from the seed.

    None if a row has another setting.
    """
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in settings}
    for row in rows:
        changes = {path: value for path, value in row["changes"].items() if path != "seed"}
        name = next((name for name, own in settings.items() if own == changes), None)
        if name is None:
            return None
        found[name].append(row)
    return found


def errors(rows: Sequence[Mapping[str, Any]], split: str = "test") -> dict[int, float]:
    """Seed -> error on ``split`` in percent, of the finished rows."""
    return {
        row["config"]["seed"]: 100 * (1 - row[split]["accuracy"])
        for row in rows
        if row["status"] == "finished"
    }


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A paired comparison: mean difference, and p of the two-sided t-test (None for one pair)."""

    pairs: int
    difference: float
    p: float | None


def compare(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> Comparison | None:
    """``ours`` minus ``theirs`` over the keys that both have; None where they share none."""
    differences = [value - theirs[key] for key, value in ours.items() if key in theirs]
    pairs = len(differences)
    if not pairs:
        return None
    mean = float(np.mean(differences))
    if pairs == 1:
        return Comparison(1, mean, None)
    sd, size = _sd(differences), max(map(abs, (*ours.values(), *theirs.values())))
    if sd <= _ROUNDING * size:  # no variance: the t statistic is 0 / 0 or infinite
        return Comparison(pairs, mean, 1.0 if abs(mean) <= _ROUNDING * size else 0.0)
    t = abs(mean) / (sd / math.sqrt(pairs))
    return Comparison(pairs, mean, float(2 * special.stdtr(pairs - 1, -t)))


def _sd(values: Sequence[float]) -> float:
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        return 0.0 if len(set(values)) == 1 else float(np.std(values, ddof=1))


@dataclasses.dataclass(frozen=True)
class Replicate:
    """One trial of a sweep; ``row`` is None while it is missing."""

    number: int
    changes: Mapping[str, Any]
    row: Mapping[str, Any] | None

    @property
    def status(self) -> str:
        """ "finished", "diverged", "failed" or "missing"."""
        return self.row["status"] if self.row else "missing"


@dataclasses.dataclass(frozen=True)
class Group:
    """The values of the axes, and the trials that share them by (seed, fold, fold_seed)."""

    values: Mapping[str, Any]
    replicates: Mapping[tuple, Replicate]

    def measured(self, split: str, metric: str) -> dict[tuple, float]:
        """A metric of the finished replicates; "error" is 100 (1 - accuracy), in percent."""
        found = {}
        for key, trial in self.replicates.items():
            sums = (trial.row.get(split) or {}) if trial.row and trial.status == "finished" else {}
            value = sums.get("accuracy" if metric == "error" else metric)
            if value is not None:
                found[key] = 100 * (1 - value) if metric == "error" else value
        return found

    @functools.cached_property
    def error(self) -> Summary:
        """Of the test error, in percent."""
        return summary_of(list(self.measured("test", "error").values()))

    def count(self, status: str) -> int:
        """How many replicates have this status."""
        return sum(trial.status == status for trial in self.replicates.values())


class SweepResults:
    """A sweep's rows, as settings in the order in which the sweep names them.

    Args:
        rows: of trials.jsonl, in any order; trials without one are missing.
        sweep: of sweep.json.

    Attributes:
        axes: the changed paths without the replicate axes, each with its values in order.
        replicate_axes: those of seed, fold and fold_seed that are swept, likewise.
        settings: all :class:`Group` objects.
        repeated: how many trials have another's configuration; they count once.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], sweep: Mapping[str, Any]):
        self.experiment = sweep["experiment"]
        self._base = {path: _frozen(v) for path, v in config.flatten(sweep["config"]).items()}
        self._typed: dict[tuple[str, str], Any] = {}  # (path, as the sweep writes it) -> value
        by_number = {row["trial"]: row for row in rows}
        trials = [Replicate(i, c, by_number.get(i)) for i, c in enumerate(sweep["trials"])]
        for trial in trials:
            own = config.flatten((trial.row or {}).get("config") or {})
            for path in trial.changes.keys() & own.keys():
                self._typed[path, str(trial.changes[path])] = _frozen(own[path])
        paths = list(dict.fromkeys(path for trial in trials for path in trial.changes))
        axes = [path for path in paths if path not in config.REPLICATES]

        grouped: dict[tuple, dict[tuple, Replicate]] = {}
        for trial in trials:
            replicates = grouped.setdefault(self._values(trial, axes), {})
            key = self._values(trial, config.REPLICATES)
            if key not in replicates or replicates[key].row is None:
                replicates[key] = trial
        self.settings = [
            Group(dict(zip(axes, values, strict=True)), replicates)
            for values, replicates in grouped.items()
        ]
        self.repeated = len(trials) - sum(len(s.replicates) for s in self.settings)
        self.axes = {
            path: list(dict.fromkeys(s.values[path] for s in self.settings)) for path in axes
        }
        self.replicate_axes = {
            path: list(dict.fromkeys(key[i] for s in self.settings for key in s.replicates))
            for i, path in enumerate(config.REPLICATES)
            if path in paths
        }
        self.baseline = self._baseline(sweep.get("baseline"))

    def _values(self, trial: Replicate, paths: Sequence[str]) -> tuple:
        return tuple(
            self._value(path, trial.changes[path]) if path in trial.changes
            else self._base.get(path)
            for path in paths
        )  # fmt: skip

    def _value(self, path: str, written: Any) -> Any:
        """A changed value as the configuration has it: a sweep may write numbers as text."""
        if (path, str(written)) in self._typed:
            return self._typed[path, str(written)]
        if not isinstance(written, str) or isinstance(self._base.get(path), str):
            return _frozen(written)
        words = {"none": None, "true": True, "false": False}
        try:
            return words[written.lower()] if written.lower() in words else ast.literal_eval(written)
        except (ValueError, SyntaxError):
            return written

    def _baseline(self, chosen: Mapping[str, Any] | None) -> dict[str, Any]:
        """The baseline's values: those chosen, else the base configuration's, else the first."""
        if chosen:
            return {path: self._value(path, value) for path, value in chosen.items()}
        base = {path: self._base.get(path) for path in self.axes}
        if any(setting.values == base for setting in self.settings):
            return base
        return dict(self.settings[0].values) if self.settings else {}

    def is_baseline(self, setting: Group) -> bool:
        """Whether the setting has all values of the baseline."""
        values = self._base | dict(setting.values)
        return all(values.get(path) == value for path, value in self.baseline.items())

    def against_baseline(self, setting: Group) -> Comparison | None:
        """The setting's test error against that of the baseline, in points.

        A baseline that names some of the axes only is, for every setting, the one that agrees with
        it on the others.  None where there is no such setting or nothing pairs.
        """
        wanted = dict(setting.values) | {
            path: value for path, value in self.baseline.items() if path in self.axes
        }
        for other in self.settings:
            if other.values == wanted and self.is_baseline(other):
                return compare(setting.measured("test", "error"), other.measured("test", "error"))
        return None

    @property
    def trials(self) -> list[Replicate]:
        """All trials, in the order of the sweep."""
        found = [trial for s in self.settings for trial in s.replicates.values()]
        return sorted(found, key=lambda trial: trial.number)


def as_text(value: Any) -> str:
    """A value as flags write it: none, true, (8, 16), 0.001."""
    if isinstance(value, tuple):
        return f"({', '.join(map(as_text, value))})"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, which can be compared and counted."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
