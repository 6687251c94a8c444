"""Short runs of every kind, and what of them must be the same however often they were killed."""

import hashlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
_SAVED_ALWAYS = "--checkpoint_seconds=0"

SCENARIOS = {
    "lenet": ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=12", _SAVED_ALWAYS],
    "zipcode": ["--experiment=zipcode", "--config.dataset=digits", "--config.epochs=4",
                _SAVED_ALWAYS],
    "strategies": ["--experiment=strategies", "--config.epochs=12", _SAVED_ALWAYS],
    "transfer": ["--experiment=transfer", "--config.epochs=20", _SAVED_ALWAYS],
    "sentence": ["--experiment=sentence", "--config.epochs=2", "--config.embedding=20",
                 "--config.model.maps=10", _SAVED_ALWAYS],
    "sweep": ["--experiment=strategies", "--sweep=seed=0:3", "--sweep=model=net1,net2",
              "--config.epochs=3"],
    "two": ["--experiment=lenet", "--config.model=lenet1", "--config.epochs=6", _SAVED_ALWAYS],
}  # fmt: skip
"""Name -> flags; "two" are two processes that train together."""


class Run:
    """The processes of a scenario in a folder, each time from where it was left."""

    def __init__(self, name: str, workdir: Path, data_dir: Path):
        self.name, self.workdir, self._data_dir = name, workdir, data_dir
        self._processes: list[subprocess.Popen] = []

    def start(self) -> None:
        """Start it, or go on with it."""
        several = []
        if self.name == "two":
            address = f"--coordinator=127.0.0.1:{_free_port()}"
            several = [[address, "--num_processes=2", f"--process_id={i}"] for i in range(2)]
        self._processes = [self._process(flags) for flags in several or [[]]]

    def _process(self, flags: list[str]) -> subprocess.Popen:
        command = [
            sys.executable, str(ROOT / "launch.py"), *SCENARIOS[self.name], *flags,
            f"--workdir={self.workdir}", f"--data_dir={self._data_dir}",
        ]  # fmt: skip
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.workdir.parent, start_new_session=True,
        )  # fmt: skip

    def kill_after(self, seconds: float, kill: Callable[[subprocess.Popen], None]) -> bool:
        """Whether it was still there to be killed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if all(process.poll() is not None for process in self._processes):
                break
            time.sleep(0.005)
        alive = any(process.poll() is None for process in self._processes)
        for process in self._processes:
            kill(process)
        for process in self._processes:
            process.communicate(timeout=120)
        return alive

    def finish(self) -> float:
        """Start it and let it end; the seconds that took.

        Raises:
            AssertionError: with what it said, if it failed.
        """
        began = time.monotonic()
        self.start()
        for process in self._processes:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0, said
        return time.monotonic() - began

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
    """Without times, and what they change: checksums, and the order of what was asked."""
    if isinstance(value, dict):
        left_out = ("seconds", "checksum", "argv", "began", "pid")
        return {key: _timeless(one) for key, one in value.items() if key not in left_out}
    return list(map(_timeless, value)) if isinstance(value, list) else value


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
