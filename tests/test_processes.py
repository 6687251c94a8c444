"""Two real processes train as one: the same parameters, one writer, and none waits for ever."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import experiments
from cnnjax.command import main
from cnnjax.training import Devices, fit
from tests.processes_child import PLAN
from tests.training_task import Hparams, small_splits, small_task

ROOT = Path(__file__).parent.parent
EXPERIMENT = ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=8"]
SECONDS = 120


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(arguments, log: Path) -> subprocess.Popen:
    with open(log, "w") as output:
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=ROOT, stdout=output, stderr=output,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip


def finish(children) -> list[int]:
    """Their statuses; whatever happens, none is left."""
    deadline = time.monotonic() + SECONDS
    try:
        return [child.wait(deadline - time.monotonic()) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


def launch(folder: Path, *others) -> list[subprocess.Popen]:
    """Two processes of one run, each with a disk of its own: ``folder``/0 and /1."""
    port = free_port()
    return [
        start(
            [
                "launch.py", *EXPERIMENT, f"--workdir={folder / str(process)}",
                f"--coordinator=127.0.0.1:{port}", "--num_processes=2",
                f"--process_id={process}", *others,
            ],
            folder / f"{process}.log",
        )
        for process in (0, 1)
    ]  # fmt: skip


def difference(a, b) -> float:
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What each of the two saw."""
    folder, port = tmp_path_factory.mktemp("processes"), free_port()
    children = []
    for process in (0, 1):
        (folder / str(process)).mkdir()
        arguments = ["-m", "tests.processes_child", port, 2, process, folder / str(process)]
        children.append(start(arguments, folder / f"{process}.log"))
    logs = lambda: "".join((folder / f"{process}.log").read_text() for process in (0, 1))
    assert finish(children) == [0, 0], logs()[-3000:]
    return [
        pickle.loads((folder / str(process) / "seen.pickle").read_bytes()) for process in (0, 1)
    ]


def test_parameters_are_those_of_one_process(seen):
    expected = fit(small_task(), small_splits(), Hparams(), PLAN, devices=Devices("single")).params
    for process in seen:
        assert process["devices"] == "2 cpu devices in 2 processes (sharded)"
        assert difference(process["params"], expected) < 1e-6
    assert difference(seen[0]["params"], seen[1]["params"]) == 0


def test_one_asks_to_stop_both_stop_and_the_resumed_run_is_the_uninterrupted(seen):
    for process in seen:
        assert process["stopped"] == 2 * 7
        assert difference(process["resumed"], process["params"]) == 0


def test_only_the_leader_writes(seen):
    assert [process["leader"] for process in seen] == [True, False]
    assert [process["files"] for process in seen] == [["checkpoints"], []]


def test_an_error_in_one_is_an_error_in_both(seen):
    for process in seen:
        assert process["errors"] == [
            "process 1: no such folder",
            "no such data",
            "a/b: No space left on device",
            "process 1: its data differs from that of process 0",
        ]
        assert process["ways"] == [
            f"parallel={way}: runs in one process; several need sharded"
            for way in ("single", "pmap")
        ]


def test_what_is_shared_arrives_whole(seen):
    for process in seen:
        assert process["largest"] == (1, 5)
        assert process["told"] == {"é": [0, None]}
        assert process["bits"] == np.array([-0.0, np.nan, 1e-45], np.float32).tobytes()


def test_a_signal_to_one_saves_and_ends_both_and_the_command_goes_on(tmp_path, capsys):
    children = launch(tmp_path, "--config.seed=2")
    rows = tmp_path / "0" / "metrics.jsonl"
    deadline = time.monotonic() + SECONDS
    while children[0].poll() is None and not (rows.exists() and rows.read_text()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    children[1].send_signal(signal.SIGTERM)
    statuses = finish(children)
    assert statuses == [128 + signal.SIGTERM] * 2, (tmp_path / "0.log").read_text()[-3000:]
    assert "SIGTERM: saved at step" in (tmp_path / "0.log").read_text()

    assert finish(launch(tmp_path, "--config.seed=2")) == [0, 0]
    assert "resuming at step" in (tmp_path / "0.log").read_text()
    assert "test accuracy" not in (tmp_path / "1.log").read_text()
    assert not (tmp_path / "1").exists()
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["epoch"] for row in written] == list(range(1, 9))

    assert main(experiments, [*EXPERIMENT, f"--workdir={tmp_path / 's'}", "--config.seed=2"]) == 0
    found, expected = (
        load_file(tmp_path / name / "model.safetensors") for name in ("0", "s")
    )  # fmt: skip
    assert difference(found, expected) < 1e-6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--coordinator=127.0.0.1:9"], "--num_processes=N and --process_id=I: missing"),
        (["--num_processes=2", "--process_id=0"], "--coordinator=HOST:PORT: missing"),
        (["--coordinator=h:9", "--num_processes=0", "--process_id=0"], "must be at least 1"),
        (["--coordinator=h:9", "--num_processes=2", "--process_id=2"], "must be from 0 to 1"),
        (["--coordinator=h", "--num_processes=2", "--process_id=1"], "must be HOST:PORT, or auto"),
        (["--coordinator=auto", "--process_id=1"], "finds num_processes and process_id itself"),
        (["--coordinator=h:9", "--mode=evaluate"], "is for --mode=train"),
    ],
)
def test_flags_that_do_not_fit_get_one_line(capsys, tmp_path, flags, words):
    assert main(experiments, [*EXPERIMENT, f"--workdir={tmp_path / 'run'}", *flags]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_port_in_use_gets_one_line(capsys, tmp_path):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", "--process_id=0"]
        assert main(experiments, [*EXPERIMENT, f"--workdir={tmp_path / 'run'}", *flags]) == 2
    assert f"--coordinator=HOST:{port}: the port cannot be used here" in capsys.readouterr().err


def test_no_cluster_gets_one_line(tmp_path):
    log = tmp_path / "log"
    child = start(["launch.py", *EXPERIMENT, "--coordinator=auto"], log)
    assert finish([child]) == [2]
    assert "error: --coordinator=auto: jax finds no cluster here" in log.read_text()
