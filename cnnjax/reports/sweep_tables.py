"""The tables of a sweep: ``summary.csv`` for programs, ``summary.md`` for people."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnjax.reports.statistics import Group, Replicate, Summary, SweepResults, as_text, summary_of

_METRICS = (("test", "accuracy"), ("test", "loss"), ("validation", "accuracy"))
_STATISTICS = {
    "mean": "mean", "sd": "sd", "min": "minimum", "max": "maximum",
    "ci95_low": "low", "ci95_high": "high",
}  # fmt: skip
_MOST_NAMED_TRIALS = 10  # a sweep that went wrong altogether needs no list of everything


def csv_table(results: SweepResults) -> str:
    """One line per setting: its values, statistics of its finished trials, counts.

    What is not defined (the spread of a single trial) is empty.
    """
    lines = []
    for setting in results.settings:
        line: dict[str, Any] = {path: as_text(value) for path, value in setting.values.items()}
        for split, metric in _METRICS:
            summary = summary_of(list(setting.measured(split, metric).values()))
            for name, field in _STATISTICS.items():
                line[f"{split}_{metric}_{name}"] = getattr(summary, field)
        line["n"] = setting.count("finished")
        lines.append(
            line | {name: setting.count(name) for name in ("diverged", "failed", "missing")}
        )
    file = io.StringIO()
    writer = csv.DictWriter(file, list(lines[0]) if lines else ["n"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def markdown_table(results: SweepResults) -> str:
    """The table of test errors, one line per setting, and below it how to read it."""
    header = [
        *results.axes, "test error, % (mean ± sd)", "95 % CI", "min – max", "n",
        "against the baseline, points",
    ]  # fmt: skip
    best = _best(results.settings)
    lines = [
        _title(results),
        "",
        _line(map(escape, header)),
        "|" + "-|" * len(results.axes) + "-:|" * (len(header) - len(results.axes)),
        *(_line(_cells(results, setting, setting in best)) for setting in results.settings),
        "",
        *(f"- {note}" for note in _notes(results)),
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text as Markdown shows it letter by letter, on one line, in a table too."""
    return re.sub(r"([\\|*`<\[])", r"\\\1", " ".join(text.split()))


def described(values: Mapping[str, Any]) -> str:
    """``model = lenet1, seed = 3``."""
    return ", ".join(f"{path} = {as_text(value)}" for path, value in values.items())


def _title(results: SweepResults) -> str:
    axes = results.axes | results.replicate_axes
    swept = [
        f"{escape(path)} ({len(values)} value{'s' * (len(values) != 1)})"
        for path, values in axes.items()
    ]
    return f"# Sweep of {escape(results.experiment)} over {', '.join(swept) or 'nothing'}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(results: SweepResults, setting: Group, bold: bool) -> list[str]:
    error = setting.error
    mean = "–" if error.mean is None else f"{error.mean:.2f}"
    if error.sd is not None:
        mean += f" ± {error.sd:.2f}"
    return [
        *(escape(as_text(value)) for value in setting.values.values()),
        f"**{mean}**" if bold else mean,
        _range(error.low, error.high),
        _range(error.minimum, error.maximum),
        str(error.count),
        "baseline" if results.is_baseline(setting) else _comparison(results, setting, error),
    ]


def _range(low: float | None, high: float | None) -> str:
    return "–" if low is None else f"{low:.2f} – {high:.2f}"


def _comparison(results: SweepResults, setting: Group, error: Summary) -> str:
    found = results.against_baseline(setting)
    if found is None:
        return "n/a"
    details = []
    if found.p is not None:
        details.append("p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}")
    if found.p is None or found.pairs < error.count:
        details.append(f"{found.pairs} pair{'s' * (found.pairs != 1)}")
    return f"{round(found.difference, 2) + 0.0:+.2f} ({', '.join(details)})"


def _best(settings: Sequence[Group]) -> list[Group]:
    """The settings of the lowest mean test error, where there is a choice."""
    measured = [(s, s.error.mean) for s in settings if s.error.mean is not None]
    if len(measured) < 2:
        return []
    least = min(mean for _, mean in measured)
    return [setting for setting, mean in measured if math.isclose(mean, least, abs_tol=1e-9)]


def _notes(results: SweepResults) -> list[str]:
    trials = results.trials
    counts = ", ".join(
        f"{sum(trial.status == status for trial in trials)} {status}"
        for status in ("finished", "diverged", "failed", "missing")
    )
    total = f"{len(trials)} trial{'s' * (len(trials) != 1)}"
    notes = [f"{total}: {counts}. The figures are over the finished ones."]
    if results.repeated:
        notes.append(
            f"{results.repeated} more repeat the configuration of another; it counts once."
        )
    lost = [trial for trial in trials if trial.status in ("diverged", "failed")]
    notes += [_lost(trial) for trial in lost[:_MOST_NAMED_TRIALS]]
    if len(lost) > _MOST_NAMED_TRIALS:
        notes.append(f"and {len(lost) - _MOST_NAMED_TRIALS} more diverged or failed.")
    notes.append(
        "sd is the sample's (divisor n - 1), the interval Student's t for the mean over n trials."
    )
    if len(results.settings) > 1:
        notes += _comparison_notes(results)
    if "fold" in results.replicate_axes:
        notes.append(
            "Folds of one data set share training examples: replicates over them are not "
            "independent, so intervals may be too narrow and p-values too small."
        )
    return notes


def _lost(trial: Replicate) -> str:
    changes = described(trial.changes) or "no changes"
    row = trial.row or {}
    message = f": {escape(row['message'])}" if row.get("message") else ""
    return f"Trial {trial.number} ({escape(changes)}) {trial.status}{message}"


def _comparison_notes(results: SweepResults) -> list[str]:
    baseline = escape(described(results.baseline))
    if not any(map(results.is_baseline, results.settings)):
        return [f"Nothing to compare with: no setting has the baseline's {baseline}."]
    compared = [
        results.against_baseline(setting)
        for setting in results.settings
        if not results.is_baseline(setting)
    ]
    pairs = sorted({found.pairs for found in compared if found}) or [0]
    span = str(pairs[0]) if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    notes = [
        f"Baseline: {baseline}. Against it: mean difference of the test error (negative is better) "
        f"and p of a two-sided paired t-test over the seeds and folds that both have "
        f"(pairs: {span}); not corrected for the number of settings ({len(compared)} compared).",
    ]
    if _best(results.settings):
        notes.append(
            "Bold: the lowest mean test error. Chosen so, it is an optimistic estimate; "
            "summary.csv has the validation accuracies to choose by."
        )
    return notes
