"""One run of ``launch.py`` in a process that has everything imported already.

A fork server imports this module once; every run is forked from it.  So a kill meets the run, not
its imports, and a campaign of hundreds takes minutes.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_IMPORTED = (
    "jax", "optax", "orbax.checkpoint", "tensorboardX", "tensorflow_datasets", "matplotlib.pyplot",
    "cnnjax.command.line", "cnnjax.experiment.run", "cnnjax.reports.figures", "experiments",
)  # fmt: skip
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.kills.process", *_IMPORTED])


def start(flags: list[str], cwd: Path, said: Path) -> ForkServerProcess:
    """``python launch.py FLAGS`` in ``cwd``; what it prints goes to the file ``said``."""
    process = _CONTEXT.Process(target=_run, args=(flags, cwd, said))
    process.start()
    return process


def send(process: ForkServerProcess, number: signal.Signals) -> None:
    """A signal to the process; SIGKILL to those it has started, too."""
    assert process.pid is not None  # it was started
    with contextlib.suppress(ProcessLookupError):
        if number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            process.kill()
        elif process.is_alive():
            os.kill(process.pid, number)


def _run(flags: list[str], cwd: Path, said: Path) -> None:
    os.setsid()
    os.chdir(cwd)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    import experiments
    from cnnjax.command import main

    sys.exit(main(experiments, flags))
