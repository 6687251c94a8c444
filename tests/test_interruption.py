"""Killed at any moment and started again, a run ends in the same bits.  Real processes.

``CNNJAX_TEST_KILLS`` sets the number of random moments (2 by default; the closing figures were
measured with 20).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KILLS = int(os.environ.get("CNNJAX_TEST_KILLS", "2"))
COMMAND = [
    sys.executable, str(ROOT / "launch.py"), "--experiment=lenet", "--config.model=lenet1",
    "--config.epochs=12", "--checkpoint_seconds=0",
]  # fmt: skip


def start(workdir: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, f"--workdir={workdir}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=workdir.parent,
    )  # fmt: skip


def finish(workdir: Path) -> str:
    process = start(workdir)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def outcome(workdir: Path) -> tuple[bytes, list, dict]:
    """The parameters' bytes, the rows and the result, without what measures time."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    result = json.loads((workdir / "result.json").read_text())
    del result["seconds"]
    return (workdir / "model.safetensors").read_bytes(), rows, result


def wait_for_rows(workdir: Path, count: int, process: subprocess.Popen) -> None:
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and metrics.read_text().count("\n") >= count:
            return
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    began = time.monotonic()
    finish(workdir)
    return outcome(workdir), time.monotonic() - began


def test_kill_9_at_random_moments(uninterrupted, tmp_path):
    """Anywhere from the start of the process to its end, in saves and between them."""
    expected, seconds = uninterrupted
    draw = random.Random(1998)
    for attempt in range(KILLS):
        workdir = tmp_path / f"run{attempt}"
        process = start(workdir)
        time.sleep(draw.uniform(0, seconds))
        process.kill()
        process.wait()
        finish(workdir)
        assert outcome(workdir) == expected, f"kill {attempt}"
        shutil.rmtree(workdir)


def test_kill_9_right_after_an_epoch(uninterrupted, tmp_path):
    """The row is written and its checkpoint perhaps not: the row must not appear twice."""
    expected, _ = uninterrupted
    workdir = tmp_path / "run"
    process = start(workdir)
    for rows in (2, 6):
        wait_for_rows(workdir, rows, process)
        process.kill()
        process.wait()
        process = start(workdir)
    process.communicate(timeout=300)
    assert outcome(workdir) == expected


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_says_where_and_exits_conventionally(
    uninterrupted, tmp_path, number, status
):
    expected, _ = uninterrupted
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_for_rows(workdir, 2, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert "saved at step" in output and str(workdir / "checkpoints") in output
    assert "Traceback" not in output
    assert "resuming at step" in finish(workdir)
    assert outcome(workdir) == expected


def test_two_processes_cannot_share_a_run(tmp_path):
    workdir = tmp_path / "run"
    first = start(workdir)
    wait_for_rows(workdir, 1, first)
    second = start(workdir)
    output, _ = second.communicate(timeout=60)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert "another process" in output
