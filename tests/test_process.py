"""What a program keeps for speed: freed memory and compiled programs."""

import json
import os
import platform
from types import SimpleNamespace

import pytest

from cnnjax.runtime import allocator
from tests.child_process import child

PRINT_FAULTS = """
import json, resource, sys
import numpy as np
from cnnjax.runtime.allocator import keep_memory

kept = keep_memory() if sys.argv[1] == "keep" else None
touch = lambda: np.ones(64 * 2**20, np.uint8)[-1]
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch(), touch()
before = faults()
for _ in range(5):
    touch()
print(json.dumps([kept, faults() - before]))
"""


@pytest.fixture
def default_allocator(monkeypatch):
    """In processes that are started, whatever the environment says of it."""
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@glibc
def test_kept_memory_is_not_mapped_again(default_allocator):
    def faults(word):
        finished = child(PRINT_FAULTS, word, NUMPY_MADVISE_HUGEPAGE="0")
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    (kept, few), (_, many) = faults("keep"), faults("return")
    assert kept is True
    assert many >= 5 * 32  # 2 MiB is the largest page
    assert few < 20


PRINT_FAULTS_OF_A_PROGRAM = """
import resource, statistics, sys
import jax, jax.numpy as jnp
from cnnjax.runtime.allocator import keep_memory
from cnnjax.runtime.compilation import jit, run_where_called

keep_memory()
if sys.argv[1] == "where called":
    run_where_called()
# 137 MiB in between; without the barrier JAX 0.12 has nothing there, but one fused kernel.
program = jit(lambda x: jax.lax.optimization_barrier(jnp.cos(x @ x.T)).sum())
x = jnp.ones((6000, 2))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def faults_of_a_call():
    before = faults()
    program(x).block_until_ready()
    return faults() - before

print(statistics.median(faults_of_a_call() for _ in range(15)))
"""


@glibc
def test_temporaries_of_a_program_that_runs_where_it_is_called_are_kept(default_allocator):
    def faults(word):
        finished = child(PRINT_FAULTS_OF_A_PROGRAM, word)
        assert finished.returncode == 0, finished.stderr
        return int(finished.stdout)

    kept, mapped_anew = faults("where called"), faults("in a thread")
    assert kept < 20
    assert mapped_anew >= 64  # 2 MiB is the largest page


def test_another_system_or_c_library_keeps_no_memory(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace())
        patch.setattr(allocator.sys, "platform", "linux")
        assert allocator.keep_memory() is False
    with monkeypatch.context() as patch:
        patch.setattr(allocator.sys, "platform", "darwin")
        assert allocator.keep_memory() is False


# --- programs that are kept -------------------------------------------------------------------

PRINT_GRADIENT = """
import sys
from pathlib import Path
import jax, numpy as np
from cnnjax import ops
from cnnjax.runtime.compilation import cache_programs, jit

cache_programs(Path(sys.argv[1]))
# Also those that take about as long as the least that is kept, today more and tomorrow less.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
shapes = (2, 28, 28, 1), (5, 5, 1, 4), (5, 5, 4, 8)
network = lambda x, *kernels: ops.conv_pool(ops.conv_pool(x, kernels[0]), kernels[1]).sum()
gradients = jit(jax.grad(network, (0, 1, 2)))(*(np.ones(shape, np.float32) for shape in shapes))
print([float(np.sum(gradient)) for gradient in gradients])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Two processes that compile the same, with the programs there are after each."""
    folder = tmp_path_factory.mktemp("compiled") / "new"
    after = []
    for _ in range(2):
        finished = child(PRINT_GRADIENT, folder)
        assert finished.returncode == 0, finished.stderr
        programs = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
        after.append((finished.stdout, programs))
    return after


def test_a_later_process_compiles_nothing_anew(compiled):
    (value, programs), (same_value, same_programs) = compiled
    assert any("jit" in name for name in programs)
    assert same_programs == programs
    assert same_value == value


def test_a_folder_that_cannot_be_written_is_no_error(compiled, tmp_path):
    (tmp_path / "file").touch()
    finished = child(PRINT_GRADIENT, tmp_path / "file" / "compiled")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == compiled[0][0]
