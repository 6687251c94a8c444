"""The ladder of the zip-code network: the very sweep that a user would start, kept as a result."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import experiments
from benchmarks.tables import RESULTS
from cnnjax.command_line import main
from cnnjax.directory import write_json
from cnnjax.reports.ladder import markdown_table
from cnnjax.sweeps.directory import TRIALS, SweepDirectory
from experiments import zipcode


def measure(runs: str, data_dir: str | None, manual_dir: str | None) -> None:
    """Run the sweep (trials with a row are not run again) and keep its rows and its picture.

    They are ``results/ladder.json`` and ``results/ladder.png``.
    """
    folder = Path(runs) / "ladder"
    flags = ["--experiment=zipcode", "--sweep=ladder", f"--workdir={folder}"]
    for name, place in (("data_dir", data_dir), ("manual_dir", manual_dir)):
        flags += [f"--{name}={place}"] if place else []
    if status := main(experiments, flags):
        raise SystemExit(status)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "ladder.json", {"rows": SweepDirectory(folder).rows(TRIALS)})
    shutil.copyfile(folder / "ladder.png", RESULTS / "ladder.png")


def table(content: Mapping[str, Any]) -> str:
    """The README's table: training and test error of every rung, from ``ladder.json``."""
    return markdown_table(zipcode.rungs(content["rows"]))
