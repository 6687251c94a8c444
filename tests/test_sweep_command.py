"""``--sweep`` on the command line: mistakes, plans, small real sweeps, and one that is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import experiments
from cnnjax.command import main
from experiments.lenet import SWEEPS
from tests.mistakes import refused

pytestmark = pytest.mark.usefixtures("elsewhere")

ROOT = Path(__file__).parent.parent
LENET = ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=1"]
SWEEP = [*LENET, "--sweep=seed=0:3"]
IN_TURN, PROCESSES = "--trials_in=in_turn", "--trials_in=processes"


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def trained(folder: Path) -> list[int]:
    return sorted(row["trial"] for row in rows_of(folder))


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """A real sweep of three seeds, one after the other."""
    folder = tmp_path_factory.mktemp("in_turn") / "sweep"
    assert main(experiments, [*SWEEP, IN_TURN, f"--workdir={folder}"]) == 0
    return folder


def test_the_list_has_every_ablation_and_the_language(capsys, elsewhere):
    assert main(experiments, ["--experiment=lenet", "--sweep=list"]) == 0
    printed = capsys.readouterr().out
    for name, sweep in SWEEPS.items():
        (line,) = [line for line in printed.splitlines() if line.split()[:1] == [name]]
        assert f" {len(sweep)} trials: " in line
    assert "model=(lenet1,lenet5,modern); seed=(0,1,2,3,4)" in printed
    assert "--sweep=seed=0:8" in printed and "sample(20, 0;" in printed
    assert list(elsewhere.iterdir()) == []


def test_a_dry_run_shows_programs_and_trials_and_runs_nothing(capsys, elsewhere):
    argv = ["--experiment=lenet", "--sweep=model=lenet1,lenet5", "--sweep=seed=3:5", "--dry_run"]
    assert main(experiments, argv) == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 trials in 2 compiled programs",
        "",
        "program 1: 2 trials",
        "     0  model=lenet1 seed=3",
        "     1  model=lenet1 seed=4",
        "",
        "program 2: 2 trials",
        "     2  model=lenet5 seed=3",
        "     3  model=lenet5 seed=4",
    ]
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--sweep=lerning_rate=1,2"], ["config.lerning_rate is not a field", "valid:"]),
        (["--sweep=hparams.dropuot=0,1"], ["did you mean config.hparams.dropout?"]),
        (["--sweep=epochs=1,two"], ["config.epochs is 'two'", "an integer of at least 1"]),
        (
            ["--config.model=modern", "--sweep=hparams.dropout=0,1"],
            ["config.hparams.dropout is '1'", "below 1"],
        ),
        (["--sweep=hparams.dropout=0,0.5"], ["no effect with config.model=lenet1", "is modern"]),
        (["--sweep=dropuot"], ["--sweep=dropuot:", "did you mean dropout?"]),
        (["--sweep=seed=5:2"], ["--sweep=seed=5:2:", "is empty"]),
        (["--sweep=seed=1,1"], ["seed=1 is in the sweep twice"]),
        (["--sweep=seed=0:2", "--sweep=seed=5"], ["seed is set by 2 of the sweeps"]),
        (["--sweep=hparams.weight_decay=0.5,0.50"], ["trials 0 and 1", "the same configuration"]),
        (["--sweep=fold=9,10"], ["trial 1 (fold=10)", "of 10 folds", "0 .. 9"]),
        (["--sweep=fold=0", "--config.folds=1798"], ["folds is 1798", "at most 1,797"]),
        (["--sweep=dataset=digits,digit"], ["'digit'", "valid: digits, mnist"]),
        (["--sweep=seed=0:2", "--mode=predict"], ["--mode=predict", "train and report"]),
        (["--sweep=seed=0:2", "--mode=evaluate"], ["--mode=evaluate", "train and report"]),
        (["--sweep=seed=0:2", "--mode=report"], ["sweep.json", "there is no such file"]),
        (["--sweep=seed=0:2", "--trials_in=threads"], ["auto|processes|one_program|in_turn"]),
        (["--sweep=seed=0:2", "--trials_at_once=0"], ["trials_at_once"]),
        (["--sweep=seed=0:2", "--engine=slurm"], ["local|ray"]),
        (["--sweep=seed=0:2", "--workdir=/proc/none"], ["cannot be written"]),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(capsys, elsewhere, argv, words):
    way = [] if any(flag.startswith("--trials_in") for flag in argv) else [IN_TURN]
    message = refused(capsys, *LENET, *way, *argv)
    assert [word for word in words if word not in message] == []
    assert list(elsewhere.iterdir()) == []


def test_a_workdir_with_something_else_is_refused(capsys, tmp_path, in_turn):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    argv = [*SWEEP, IN_TURN]
    assert "there is notes.txt" in refused(capsys, *argv, f"--workdir={tmp_path / 'mine'}")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    before = {path.name: path.read_bytes() for path in in_turn.iterdir()}
    message = refused(capsys, *LENET, IN_TURN, "--sweep=seed=0:4", f"--workdir={in_turn}")
    assert "another list of trials" in message and "repeat that sweep: seed=0:3" in message
    other = refused(capsys, *SWEEP, IN_TURN, "--config.batch_size=5", f"--workdir={in_turn}")
    assert "another configuration" in other
    assert {path.name: path.read_bytes() for path in in_turn.iterdir()} == before
    # A run's folder is no sweep's, nor a sweep's a run's.
    assert "there is" in refused(capsys, *LENET, f"--workdir={in_turn}")


def test_a_sweep_has_its_files_and_rows(in_turn):
    names = {path.name for path in in_turn.iterdir()}
    assert names >= {"sweep.json", "trials.jsonl", "summary.csv", "summary.md"}
    assert any(name.endswith(".png") for name in names)
    sweep = json.loads((in_turn / "sweep.json").read_text())
    assert sweep["argv"] == [*SWEEP, IN_TURN, f"--workdir={in_turn}"]
    assert (sweep["sweep"], sweep["experiment"]) == (["seed=0:3"], "lenet")
    assert sweep["trials"] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    for seed, row in enumerate(rows_of(in_turn)):
        assert (row["trial"], row["status"], row["changes"]) == (seed, "finished", {"seed": seed})
        assert (row["parameters"], row["test"]["count"]) == (3246, 359)
        assert row["devices"] == "1 cpu device (single)"
        flags = row["command"].split("launch.py ")[1].split()
        assert flags == [LENET[0], *([f"--config.seed={seed}"] if seed else []), *LENET[1:]]
    (table,) = csv.DictReader((in_turn / "summary.csv").read_text().splitlines())
    mean = sum(row["test"]["accuracy"] for row in rows_of(in_turn)) / 3
    assert float(table["test_accuracy_mean"]) == pytest.approx(mean, rel=1e-12)
    assert table["n"] == "3"


def test_the_command_of_a_row_measures_the_same(in_turn, tmp_path):
    row = rows_of(in_turn)[2]
    flags = row["command"].split("launch.py ")[1].split()
    assert main(experiments, [*flags, f"--workdir={tmp_path / 'run'}"]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["test"] == pytest.approx(row["test"], rel=1e-5)
    assert result["validation"] == pytest.approx(row["validation"], rel=1e-5)


@pytest.mark.parametrize("flags", [[], SWEEP[1:]])
def test_a_report_made_again_is_the_same(in_turn, capsys, flags):
    before = {path.name: path.read_bytes() for path in in_turn.iterdir()}
    for name in before:
        if name.startswith("summary") or name.endswith(".png"):
            (in_turn / name).unlink()
    argv = ["--experiment=lenet", *flags, "--mode=report", f"--workdir={in_turn}"]
    assert main(experiments, argv) == 0
    assert {path.name: path.read_bytes() for path in in_turn.iterdir()} == before
    printed = capsys.readouterr().out.splitlines()
    assert str(in_turn / "summary.csv") in printed


def test_a_finished_sweep_is_not_trained_again(in_turn, capsys):
    before = (in_turn / "trials.jsonl").read_bytes()
    assert main(experiments, [*SWEEP, IN_TURN, f"--workdir={in_turn}"]) == 0
    assert "3 of 3 trials done already" in capsys.readouterr().out
    assert (in_turn / "trials.jsonl").read_bytes() == before


def test_without_a_workdir_the_same_sweep_finds_its_rows_again(capsys, elsewhere, monkeypatch):
    argv = [*LENET, IN_TURN, "--sweep=seed=1"]
    assert main(experiments, argv) == 0
    (folder,) = (elsewhere / "runs").iterdir()
    assert folder.name.startswith("lenet-sweep-")
    monkeypatch.setattr("cnnjax.experiment.trial.fit", lambda *a, **k: 1 / 0)
    assert main(experiments, argv) == 0
    assert "1 of 1 trial" in capsys.readouterr().out
    assert [path.name for path in (elsewhere / "runs").iterdir()] == [folder.name]


def test_failed_trials_give_status_1_and_run_again(capsys, tmp_path, monkeypatch):
    argv = [*LENET, IN_TURN, "--sweep=seed=0:2", f"--workdir={tmp_path / 'sweep'}"]
    with monkeypatch.context() as patch:
        patch.setattr("cnnjax.experiment.trial.fit", lambda *a, **k: 1 / 0)
        assert main(experiments, argv) == 1
    captured = capsys.readouterr()
    assert "failed: seed=0: division by zero\n" in captured.err
    assert "error: 2 trials of 2 failed" in captured.err
    assert "Traceback" not in captured.err + captured.out
    assert main(experiments, argv) == 0
    assert [row["status"] for row in rows_of(tmp_path / "sweep")] == ["finished"] * 2


def test_ctrl_c_keeps_the_finished_trials(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "sweep"
    argv = [*SWEEP, IN_TURN, f"--workdir={folder}"]
    from cnnjax.experiment import trial

    real = trial.fit

    def interrupted(task, splits, hparams, plan, **options):
        if plan.seed == 1:
            raise KeyboardInterrupt
        return real(task, splits, hparams, plan, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "fit", interrupted)
        assert main(experiments, argv) == 130
    captured = capsys.readouterr()
    assert captured.err.startswith("interrupted; ") and str(folder) in captured.err
    assert trained(folder) == [0]
    first = rows_of(folder)[0]
    assert main(experiments, argv) == 0
    assert trained(folder) == [0, 1, 2]
    assert rows_of(folder)[0] == first


def start(folder: Path) -> subprocess.Popen:
    """Twelve seeds in two processes."""
    command = [sys.executable, str(ROOT / "launch.py"), *LENET, PROCESSES, "--trials_at_once=2"]
    return subprocess.Popen(
        [*command, "--sweep=seed=0:12", f"--workdir={folder}"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder.parent,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def children(parent: int) -> list[int]:
    """The processes whose parent is ``parent``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(after_name[1]) == parent:
            found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads Linux's /proc")
def test_processes_killed_after_a_row_go_on_and_leave_no_orphans(tmp_path):
    whole, folder = tmp_path / "whole", tmp_path / "sweep"
    finish(start(whole))
    assert trained(whole) == list(range(12))
    assert {row["status"] for row in rows_of(whole)} == {"finished"}

    process = start(folder)
    kept = folder / "trials.jsonl"
    has_row = lambda: kept.exists() and "\n" in kept.read_text()
    assert wait_until(lambda: has_row() or process.poll() is not None, 120)
    workers = children(process.pid)
    process.kill()
    process.wait()
    ended = wait_until(lambda: not any(map(alive, workers)), 30)
    for worker in filter(alive, workers):
        os.kill(worker, signal.SIGKILL)
    process.stdout.close()
    assert len(workers) >= 2
    assert ended, "a worker outlived its parent"

    with open(kept, "a") as file:
        file.write('{"trial": 4, "id"')  # as a kill inside of a write leaves it
    before = [json.loads(line) for line in kept.read_text().splitlines()[:-1]]
    assert 1 <= len(before) < 12, "it was killed too late for this test"
    output = finish(start(folder))
    assert f"{len(before)} of 12 trials done already" in output
    assert trained(folder) == list(range(12))
    assert rows_of(folder)[: len(before)] == before

    tables = [
        next(csv.DictReader((each / "summary.csv").read_text().splitlines()))
        for each in (whole, folder)
    ]
    assert tables[0].keys() == tables[1].keys()
    for name, value in tables[0].items():
        if name.startswith("test_") or name == "n":
            assert float(tables[1][name]) == pytest.approx(float(value), rel=1e-6), name
