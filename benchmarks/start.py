"""``--suite=start``: where the seconds of the README's main command go, cold and warm."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance
from benchmarks.tables import RESULTS, ROOT
from cnnjax.files.durable import write_json

COMMAND = ("--experiment=lenet",)
_CHILD = Path(__file__).with_name("start_child.py")
_STARTS = ("cold", "warm")
_OTHERS_BELOW = 0.005  # seconds of a package or program that is not listed by itself

Run = Mapping[str, Any]


def measure(against: str | None, rounds: int) -> None:
    """Run the command, cold and warm, and write ``results/start.json``.

    Args:
        against: another checkout of this repository, which takes turns with this one.
        rounds: how often each is run.
    """
    checkouts = {"before": Path(against)} if against else {}
    checkouts["now"] = ROOT
    runs: dict[tuple[str, str], list[Run]] = {}
    for number in range(rounds):
        for name, root in checkouts.items():
            with tempfile.TemporaryDirectory() as folder:
                for start in _STARTS:  # the second finds the first's programs
                    found = _run(root, Path(folder) / "data", Path(folder) / start)
                    runs.setdefault((name, start), []).append(found)
                    print(name, start, f"{sum(found['parts'].values()):.2f} s", flush=True)
        content = {
            **provenance(),
            "command": " ".join(["python launch.py", *COMMAND]),
            "rounds": number + 1,
            "rows": [
                {"checkout": name, "start": start, **_medians(found)}
                for (name, start), found in runs.items()
            ],
        }
        write_json(RESULTS / "start.json", content)


def _run(root: Path, data_dir: Path, workdir: Path) -> Run:
    arguments = [*COMMAND, f"--data_dir={data_dir}", f"--workdir={workdir}"]
    began = time.monotonic()
    child = subprocess.run(
        [sys.executable, str(_CHILD), repr(began), *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(f"{root}: the command failed: {child.stderr[-2000:]}")
    run = json.loads(child.stdout.splitlines()[-1])
    run["parts"]["Python"] += time.monotonic() - run.pop("ended_at")
    return run


def _medians(runs: Sequence[Run]) -> dict[str, Any]:
    totals = [sum(run["parts"].values()) for run in runs]
    found: dict[str, Any] = {
        "total": statistics.median(totals),
        "totals": totals,
        **{
            name: statistics.median(run[name] for run in runs)
            for name in ("cpu", "compiled", "read")
        },
    }
    for kind in ("parts", "packages", "programs"):
        names = dict.fromkeys(name for run in runs for name in run[kind])
        medians = {
            name: statistics.median(run[kind].get(name, 0.0) for run in runs) for name in names
        }
        listed = {k: v for k, v in medians.items() if kind == "parts" or v >= _OTHERS_BELOW}
        found[kind] = dict(sorted(listed.items(), key=lambda item: -item[1]))
    return found


def table(content: Mapping[str, Any]) -> str:
    """The README's table: a line for every part, a column for every start of every checkout."""
    rows = content["rows"]
    parts = dict.fromkeys(part for row in rows for part in row["parts"])
    lines = [
        "| seconds | " + " | ".join(f"{row['checkout']}, {row['start']}" for row in rows) + " |",
        "|-|" + "-:|" * len(rows),
    ]
    for part in parts:
        values = [row["parts"].get(part, 0.0) for row in rows]
        lines.append(f"| {part} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    for label, value in (
        ("**all**", lambda row: f"{row['total']:.2f}"),
        ("all but the steps", lambda row: f"{row['total'] - row['parts']['steps']:.2f}"),
        ("processor time, all threads", lambda row: f"{row['cpu']:.2f}"),
        ("programs compiled", lambda row: f"{row['compiled']:.0f}"),
    ):
        lines.append(f"| {label} | " + " | ".join(map(value, rows)) + " |")
    return "\n".join(lines)
