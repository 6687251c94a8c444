"""One of several processes that train the small task together; leaves what it saw in a file.

``python -m tests.processes_child PORT COUNT ID FOLDER``; FOLDER is this process's own.
"""

import pickle
import sys
from pathlib import Path

import jax
import numpy as np

from cnnjax.errors import UserError
from cnnjax.runtime import processes
from cnnjax.training import Devices, Interrupted, Observer, Plan, fit
from cnnjax.training.checkpoints import Checkpoints
from tests.training_task import Hparams, small_splits, small_task

# 13: a batch that two processes do not share evenly, and neither do 90 examples.
PLAN = Plan(epochs=4, batch_size=13, seed=5, select="last")


class StopsHere(Observer):
    """Asks to stop after the second epoch, in the process that has it."""

    rows = 0

    def epoch_end(self, row):
        self.rows += 1

    def should_stop(self):
        return self.rows == 2


def train(folder=None, observer=None):
    """The parameters; checkpoints in ``folder``."""
    checkpoints = Checkpoints(folder, every_seconds=0) if folder else None
    fitted = fit(
        small_task(), small_splits(), Hparams(), PLAN, checkpoints=checkpoints, observer=observer
    )
    return jax.device_get(fitted.params)


def message_of(function) -> str | None:
    """The UserError's."""
    try:
        function()
    except UserError as error:
        return str(error)
    return None


def fails_in(process, error):
    """A function that fails in one process."""

    def function():
        if jax.process_index() == process:
            raise error

    return function


def seen(folder: Path) -> dict:
    """Everything the parent checks."""
    me = jax.process_index()
    found = {"devices": Devices().describe(), "leader": processes.is_leader()}
    found["params"] = train()

    try:
        train(folder / "checkpoints", StopsHere() if me == 1 else None)
    except Interrupted as stop:
        found["stopped"] = stop.step
    found["resumed"] = train(folder / "checkpoints")
    found["files"] = sorted(path.name for path in folder.iterdir())

    found["ways"] = [message_of(lambda way=way: Devices(way)) for way in ("single", "pmap")]
    full = OSError(28, "No space left on device", "a/b")
    found["errors"] = [
        message_of(lambda: processes.together(fails_in(1, UserError("no such folder")))),
        message_of(lambda: processes.leader_first(fails_in(0, UserError("no such data")))),
        message_of(lambda: processes.from_leader(fails_in(0, full))),
        message_of(lambda: processes.require_same(seed=1, data=f"of {me}")),
    ]
    found["largest"] = processes.largest(me, 5 - me)
    found["told"] = processes.from_leader(lambda: {"é": [me, None]})
    zero = np.array([-0.0, np.nan, 1e-45], np.float32)
    found["bits"] = processes.arrays_from_leader(zero * (1 - me)).tobytes()
    return found


if __name__ == "__main__":
    port, count, process = map(int, sys.argv[1:4])
    folder = Path(sys.argv[4])
    processes.join(f"127.0.0.1:{port}", count, process)
    (folder / "seen.pickle").write_bytes(pickle.dumps(seen(folder)))
