"""The papers' tables: the very sweeps that a user would start, kept as results."""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import experiments
from benchmarks.tables import RESULTS
from cnnjax.command_line import load_experiment, main
from cnnjax.directory import write_json
from cnnjax.sweeps.directory import TRIALS, SweepDirectory


@dataclasses.dataclass(frozen=True)
class Paper:
    """A sweep whose report is a table of a paper.

    Attributes:
        experiment, sweep: their names.
        flags: of the command line, besides.
    """

    experiment: str
    sweep: str
    flags: tuple[str, ...] = ()


PAPERS = {
    "strategies": Paper("strategies", "table"),
    "networks": Paper("lenet", "table", ("--config.dataset=mnist",)),
    "best": Paper("lenet", "best", ("--config.dataset=mnist",)),
    "ladder": Paper("zipcode", "ladder"),
}


def measure(name: str, runs: str, data_dir: str | None, manual_dir: str | None) -> None:
    """Run the sweep (trials with a row are not run again); keep its rows and its report's picture.

    They are ``results/NAME.json`` and ``results/NAME.png``.
    """
    paper, folder = PAPERS[name], Path(runs) / name
    flags = [f"--experiment={paper.experiment}", f"--sweep={paper.sweep}", *paper.flags]
    for flag, place in (("workdir", folder), ("data_dir", data_dir), ("manual_dir", manual_dir)):
        flags += [f"--{flag}={place}"] if place else []
    if status := main(experiments, flags):
        raise SystemExit(status)
    rows = SweepDirectory(folder).rows(TRIALS)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {"rows": rows})
    (picture,) = (file for file in _report(name, rows, folder) if file.suffix == ".png")
    shutil.copyfile(picture, RESULTS / f"{name}.png")


def table(name: str, content: Mapping[str, Any]) -> str:
    """The README's table: that of the report on the kept rows."""
    with tempfile.TemporaryDirectory() as folder:
        (text,) = (f for f in _report(name, content["rows"], Path(folder)) if f.suffix == ".md")
        lines = text.read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def _report(name: str, rows: list[Any], folder: Path) -> list[Path]:
    return load_experiment(experiments, PAPERS[name].experiment).report(rows, folder)
