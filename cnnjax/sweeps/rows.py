"""Rows of a sweep: trained, kept one by one, and summarised."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.sweeps.directory import DESCRIPTION, TRIALS, SweepDirectory
from cnnjax.sweeps.trials import Trial, label_of

Row = dict[str, Any]
Say = Callable[[str], None]
Report = Callable[[Sequence[Row], Path], Sequence[Path]]
"""``(rows, folder) -> files``: what an experiment adds to the report of its sweeps."""


def carry_out(
    directory: SweepDirectory,
    description: Mapping[str, Any],
    trials: Sequence[Trial],
    train: Callable[[Sequence[Trial]], Iterable[Row]],
    say: Say,
    own: Report | None = None,
) -> list[Row]:
    """Train the trials without a row in ``directory``, keep each row, and write the report.

    Args:
        directory: the sweep's.
        description: the content of its sweep.json.
        trials: all of them.
        train: trials -> the row of each as soon as there is one.
        say: receives lines for the user.
        own: adds to the report.

    Returns:
        The rows of all trials, in their order.
    """
    directory.check(description)
    with directory.hold():
        rows = directory.begin(description, say)
        done = {row["id"] for row in rows}
        if rows:
            say(f"{len(rows)} of {counted(len(trials), 'trial')} done already")
        progress = _Progress(len(trials), len(rows), say)
        for row in train([trial for trial in trials if trial.id not in done]):
            directory.append_row(TRIALS, row)
            rows.append(row)
            progress.row(row)
        rows.sort(key=lambda row: row["trial"])
        report(directory, own=own)
    return rows


def report(
    directory: SweepDirectory,
    baseline: Mapping[str, Any] | None = None,
    own: Report | None = None,
) -> list[Path]:
    """Make the tables and pictures of a sweep from its rows; returns the files.

    Args:
        directory: the sweep's.
        baseline: another than sweep.json names.
        own: adds to the report.
    """
    # Not at import: matplotlib takes longer than the rest together.
    from cnnjax.reports.sweep_report import write_sweep_report

    description = directory.read(DESCRIPTION)
    description["baseline"] = baseline or description["baseline"]
    rows = directory.rows(TRIALS)
    files = write_sweep_report(directory.path, rows, description)
    return [*files, *own(rows, directory.path)] if own else files


def counted(count: int, noun: str) -> str:
    """As "1 trial", "2 trials"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


class _Progress:
    """Says a line for every row."""

    def __init__(self, total: int, done: int, say: Say):
        self._total, self._before, self._done, self._say = total, done, done, say
        self._start = time.perf_counter()

    def row(self, row: Row) -> None:
        self._done += 1
        passed = time.perf_counter() - self._start
        left = passed / (self._done - self._before) * (self._total - self._done)
        if row["status"] == "finished":
            means = row.get("test") or row["validation"]
            what = f"{100 * (1 - means['accuracy']):.2f} % test error, {row['seconds']:.1f} s"
        else:
            what = f"{row['status']}: {row['message']}"
        self._say(
            f"[{self._done}/{self._total}] {label_of(row['changes'])}: {what}; {left:.0f} s left"
        )
