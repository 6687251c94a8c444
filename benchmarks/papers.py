"""The papers' tables: the very sweeps that a user would start, kept as results."""

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import experiments
from benchmarks.tables import RESULTS
from cnnjax.command import main
from cnnjax.experiment import record
from cnnjax.files.durable import write_json
from cnnjax.sweeps.directory import TRIALS, SweepDirectory


@dataclasses.dataclass(frozen=True)
class Paper:
    """Sweeps whose report is a table of a paper.

    Attributes:
        experiment: its name.
        sweeps: theirs; one report is of the trials of all.
        flags: of the command line, besides.
    """

    experiment: str
    sweeps: tuple[str, ...]
    flags: tuple[str, ...] = ()


PAPERS = {
    "strategies": Paper("strategies", ("table",)),
    "networks": Paper("lenet", ("table", "best"), ("--config.dataset=mnist",)),
    "ladder": Paper("zipcode", ("ladder",)),
    "transfer": Paper("transfer", ("shots",)),
    "kim": Paper("sentence", ("rand",)),
    "kim_vectors": Paper("sentence", ("vectors",)),
}


def measure(
    name: str, runs: str, data_dir: str | None, manual_dir: str | None, vectors: str | None
) -> None:
    """Run the sweeps (trials with a row are not run again); keep rows and their report's picture.

    They are ``results/NAME.json`` and, if it has one, ``results/NAME.png``.
    """
    paper, rows = PAPERS[name], []
    for sweep in paper.sweeps:
        folder = Path(runs) / f"{name}-{sweep}"
        flags = [f"--experiment={paper.experiment}", f"--sweep={sweep}", *paper.flags]
        places = {
            "workdir": folder,
            "data_dir": data_dir,
            "manual_dir": manual_dir,
            "config.vectors": vectors,
        }
        flags += [f"--{flag}={place}" for flag, place in places.items() if place]
        if status := main(experiments, flags):
            raise SystemExit(status)
        rows += sorted(SweepDirectory(folder).rows(TRIALS), key=lambda row: row["trial"])
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {"rows": rows})
    with tempfile.TemporaryDirectory() as folder:
        if picture := _report(name, rows, Path(folder)).get(".png"):
            shutil.copyfile(picture, RESULTS / f"{name}.png")


def table(name: str, content: Mapping[str, Any]) -> str:
    """The README's table: that of the report on the kept rows."""
    with tempfile.TemporaryDirectory() as folder:
        lines = _report(name, content["rows"], Path(folder))[".md"].read_text().splitlines()
    return "\n".join(line for line in lines if line.startswith("|"))


def _report(name: str, rows: list[Any], folder: Path) -> dict[str, Path]:
    """The one table and the one picture, if there is one, by their names' ends."""
    files = record.load(experiments, PAPERS[name].experiment).report(rows, folder)
    return {file.suffix: file for file in files}
