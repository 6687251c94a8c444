"""Jobs on a Ray runtime of this machine: the same rows as here, whatever becomes of a worker."""

import dataclasses
import functools
import os
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnnjax.errors import UserError
from cnnjax.experiment.places import Places
from cnnjax.sweeps import engines, grid
from cnnjax.sweeps.chunks import Together
from cnnjax.sweeps.jobs import Job
from cnnjax.sweeps.trials import trials_of
from experiments import lenet
from tests.data_files import refused

ray = pytest.importorskip("ray", reason="Ray is an optional extra")


@pytest.fixture(scope="session")
def runtime(data_dir):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        ray.init(
            "local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False,
            log_to_driver=False, logging_level="error",
        )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def jobs(tmp_path_factory):
    """Four, of one trial each."""
    config = lenet.Config(model="lenet1", epochs=1)
    places = Places(tmp_path_factory.mktemp("sweep"))
    trials = trials_of(config, grid({"hparams.learning_rate": (0.003, 0.01)}, seed=range(2)))
    job = Job("experiments.lenet", (), places, together=Together(False))
    return [dataclasses.replace(job, trials=(trial,)) for trial in trials]


@pytest.fixture(scope="session")
def expected(jobs):
    return list(engines.here(jobs))


def nothing():
    pass


def die_at_call(number, folder):
    """As ``prepare``: the process of the call of this number, counted over all, is killed."""
    for call in range(1, 100):
        try:
            (folder / str(call)).mkdir()
        except FileExistsError:
            continue
        if call == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return


def fail(error):
    raise error


def note_threads(folder):
    """As ``prepare``, which is called again when the backend has started: its threads' names."""
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    (folder / str(time.monotonic_ns())).write_text("".join(names))


def check_same(rows, expected):
    rows = sorted(rows, key=lambda row: row["trial"])
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["status"] == "finished", row["message"]
        for split in ("train", "validation", "test"):
            assert row[split]["accuracy"] == other[split]["accuracy"]
            np.testing.assert_allclose(row[split]["loss"], other[split]["loss"], atol=1e-4)
        for key in ("changes", "config", "devices", "versions", "command", "parameters"):
            assert row[key] == other[key]


def test_the_rows_of_this_process_on_one_core_a_job(runtime, jobs, expected, tmp_path):
    prepare = functools.partial(note_threads, tmp_path)
    check_same(engines.on_ray(prepare)(jobs), expected)
    threads = [path.read_text().count("tf_XLAEigen") for path in tmp_path.iterdir()]
    assert len(threads) == len(jobs) and set(threads) <= {0, 1}


def test_a_killed_worker_costs_no_row_and_doubles_none(runtime, jobs, expected, tmp_path):
    prepare = functools.partial(die_at_call, 3, tmp_path)
    check_same(engines.on_ray(prepare)(jobs), expected)
    assert len(list(tmp_path.iterdir())) == len(jobs) + 1


def test_an_error_in_a_job_is_one_line(runtime, jobs):
    for error, message in (
        (UserError("no such data"), "no such data"),
        (KeyError("x"), "a job ended in KeyError: 'x'"),
    ):
        engine = engines.on_ray(functools.partial(fail, error))
        assert refused(lambda engine=engine: list(engine(jobs[:1]))) == message


def test_without_jobs_nothing_is_started(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("started"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert list(engines.on_ray(nothing)([])) == []


def test_an_address_where_nobody_listens(monkeypatch, jobs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    refused(lambda: list(engines.on_ray(nothing)(jobs)), f"RAY_ADDRESS={address}", "refused")


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(lambda: engines.on_ray(nothing), "not installed", ".[ray]")
