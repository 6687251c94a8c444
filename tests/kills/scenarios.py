"""Short runs of every kind, and what of them must be the same however often they were killed."""

import hashlib
import json
import signal
import socket
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.kills import process

_SECONDS = 300  # after which a process hangs
_SAVED_ALWAYS = "--checkpoint_seconds=0"

SCENARIOS = {
    "lenet": ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=12", _SAVED_ALWAYS],
    "zipcode": ["--experiment=zipcode", "--config.dataset=digits", "--config.epochs=1",
                _SAVED_ALWAYS],
    "strategies": ["--experiment=strategies", "--config.epochs=12", _SAVED_ALWAYS],
    "transfer": ["--experiment=transfer", "--config.epochs=8", _SAVED_ALWAYS],
    "sentence": ["--experiment=sentence", "--config.epochs=2", "--config.embedding=20",
                 "--config.maps=10", _SAVED_ALWAYS],
    "sweep": ["--experiment=strategies", "--sweep=seed=0:3", "--sweep=model=net1,net2",
              "--config.epochs=3"],
    "two": ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=6", _SAVED_ALWAYS],
}  # fmt: skip
"""Name -> flags; "two" are two processes that train together."""


class Run:
    """The processes of a scenario in a folder, each time from where it was left."""

    def __init__(self, name: str, workdir: Path, data_dir: Path):
        self.name, self.workdir = name, workdir
        self._flags = [*SCENARIOS[name], f"--workdir={workdir}", f"--data_dir={data_dir}"]
        self._said = workdir.with_name(f"{workdir.name}.txt")
        self._processes: list[ForkServerProcess] = []

    def start(self) -> None:
        """Start it, or go on with it."""
        several: list[list[str]] = [[]]
        if self.name == "two":
            address = f"--coordinator=127.0.0.1:{_free_port()}"
            several = [[address, "--num_processes=2", f"--process_id={i}"] for i in range(2)]
        self._processes = [
            process.start([*self._flags, *flags], self.workdir.parent, self._said)
            for flags in several
        ]

    def end_after(self, seconds: float, number: signal.Signals) -> bool:
        """Send a signal after some time, and wait; whether it was still there."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(one.is_alive() for one in self._processes):
            time.sleep(0.005)
        alive = any(one.is_alive() for one in self._processes)
        for one in self._processes:
            process.send(one, number)
        for one in self._processes:
            one.join(_SECONDS)
            assert one.exitcode is not None, f"{number.name} did not end it: {self.said()}"
        return alive

    def finish(self) -> float:
        """Start it and let it end; the seconds that took.

        Raises:
            AssertionError: with what it said, if it failed.
        """
        began = time.monotonic()
        self.start()
        for one in self._processes:
            one.join(_SECONDS)
            assert one.exitcode == 0, self.said()
        return time.monotonic() - began

    def said(self) -> str:
        """What its processes printed, all that were started."""
        return self._said.read_text(errors="replace") if self._said.exists() else ""

    def outcome(self) -> dict[str, Any]:
        """File -> its content, without what measures time."""
        found = {}
        for path in sorted(self.workdir.iterdir()):
            if path.suffix == ".jsonl":
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                found[path.name] = sorted(json.dumps(_timeless(row)) for row in rows)
            elif path.suffix == ".json":
                found[path.name] = _timeless(json.loads(path.read_text()))
            elif path.suffix in (".safetensors", ".npz", ".txt"):
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        assert found
        return found


def _timeless(value: Any) -> Any:
    """Without what was measured, and what was asked: that names the folder."""
    if isinstance(value, dict):
        left_out = ("seconds", "argv")
        return {key: _timeless(one) for key, one in value.items() if key not in left_out}
    return list(map(_timeless, value)) if isinstance(value, list) else value


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
