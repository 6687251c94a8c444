"""The report of a sweep, from its rows: tables and pictures in one folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.files.durable import write_text
from cnnjax.reports.statistics import SweepResults
from cnnjax.reports.sweep_figures import figures
from cnnjax.reports.sweep_tables import csv_table, markdown_table


def write_sweep_report(
    folder: Path, rows: Sequence[Mapping[str, Any]], sweep: Mapping[str, Any]
) -> list[Path]:
    """Write ``summary.csv``, ``summary.md`` and the pictures of a sweep.

    Args:
        folder: where; made if need be.
        rows: of trials.jsonl, in any order, also of a sweep that is not finished.
        sweep: of sweep.json.

    Returns:
        The files written.
    """
    results = SweepResults(rows, sweep)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"summary.csv": csv_table(results), "summary.md": markdown_table(results)}
    for name, text in tables.items():
        write_text(folder / name, text)
    pictures = figures(results)
    for name, figure in pictures.items():
        figure.savefig(folder / name, dpi=120)
    return [folder / name for name in (*tables, *pictures)]
