"""Settings of the whole suite.  Several devices are simulated in child processes only."""

import os
import platform
import socket
from pathlib import Path

import jax
import pytest

from cnnjax import data
from cnnjax.runtime.compilation import cache_programs
from tests.data_files import small_mnist, write_files

# The optimiser of machine code would be a third of the suite's time; benchmarks have it.  And with
# AVX-512 programs may read what lies before an array (docs/known_issues.md).
_FLAGS = ["--xla_backend_optimization_level=1"]
if platform.machine() in ("x86_64", "AMD64"):
    _FLAGS.append("--xla_cpu_max_isa=AVX2")
# Before what is set already, so that XLA_FLAGS=--xla_backend_optimization_level=3 has it.
os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, os.environ.get("XLA_FLAGS", "")])

# Shapes must match on purpose, never by accident.
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    folder = os.environ.get("CNNJAX_TEST_DATA")
    if not folder:
        pytest.skip("CNNJAX_TEST_DATA does not name a folder of real data sets")
    return Path(folder)


@pytest.fixture(autouse=True, scope="session")
def offline():
    """No test reaches another machine, nor waits for one."""
    resolve = socket.getaddrinfo

    def local_only(host, *args, **kwargs):
        if host != "127.0.0.1":
            raise socket.gaierror("offline")
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", local_only)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(autouse=True, scope="session")
def data_dir(tmp_path_factory):
    """The default data directory, where compiled programs are kept, is a temporary one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def kept_programs(data_dir):
    """Equal programs are compiled once; it holds for the tests that follow too."""
    cache_programs(Path(os.environ["TFDS_DATA_DIR"]) / "compiled")


@pytest.fixture(scope="session")
def lenet(tmp_path_factory):
    """A file with weights of a LeNet-1."""
    from tests.transfer_task import lenet_file  # imports an experiment

    return lenet_file(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def digits():
    """The splits that transfer learns from."""
    return data.load("digits:56789").splits


@pytest.fixture
def files(tmp_path):
    """A folder with four small IDX files."""
    return write_files(tmp_path / "files", small_mnist())


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Default folders are made in a temporary one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """What is lowered for this platform is what an NVIDIA GPU would get."""
    choose = lambda *operands, default, **faster: faster.get("cuda", default)(*operands)
    monkeypatch.setattr(jax.lax, "platform_dependent", choose)


@pytest.fixture
def x64():
    """Float64 exists."""
    with jax.enable_x64(True):
        yield
