"""The files of one run: what it was asked, what it measured, what came out.

config.json       everything needed to run it again: config, argv, versions, source revision,
                  devices, and the checksum of the data
metrics.jsonl     one row per epoch
checkpoints/      the whole state, for resuming
model.safetensors the selected parameters, by path ("C1/kernel")
vocabulary.txt    of sentences: the word of every id, one a line
predictions.npz   labels int32[N] and logits float32[N, K] of the test split
result.json       the figures, written last: a run is finished when it is there
events.out.*      TensorBoard
report/           pictures
"""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from cnnjax import __version__, config
from cnnjax.errors import UserError
from cnnjax.experiment.directory import Directory
from cnnjax.runtime.durable import write_json, write_text

METRICS = "metrics.jsonl"
_QUIET = {"capture_output": True, "text": True, "check": False}
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


def default_path(experiment: str, settings: Any) -> Path:
    """``runs/EXPERIMENT-DIGEST``: the same configuration finds its own run again."""
    text = json.dumps(config.to_dict(settings), sort_keys=True)
    return Path("runs") / f"{experiment}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class RunDirectory(Directory):
    """A run's files, at ``path``."""

    fields: ClassVar = {
        "config.json": {"experiment": str, "config": dict},
        "result.json": {"test": dict, "data": dict, "model_sha256": str},
    }

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Where pictures lie."""
        return self.path / "report"

    @property
    def vocabulary(self) -> Path:
        """The words of a model of sentences."""
        return self.path / "vocabulary.txt"

    def check(self, experiment: str, settings: Any) -> None:
        """Check that the directory is free for this run, or holds it already; writes nothing.

        Raises:
            UserError: it holds files that are no run, or a run of another experiment or
                configuration (named field by field).
        """
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise UserError(f"--workdir={self.path}: is a file; name a folder")
        if not (self.path / "config.json").exists():
            others = sorted(path.name for path in self.path.iterdir() if path.name != ".lock")
            if others:
                raise UserError(
                    f"--workdir={self.path}: holds files but no run (config.json is missing; "
                    f"there is {others[0]}); name an empty or a new folder"
                )
            return
        stored = self.read("config.json")
        if stored["experiment"] != experiment:
            raise UserError(
                f"--workdir={self.path}: holds a run of --experiment={stored['experiment']}, "
                f"not of {experiment}; name another folder"
            )
        changed = config.differences(settings, stored["config"])
        if changed:
            raise UserError(
                f"--workdir={self.path}: holds a run with another configuration: "
                f"{'; '.join(changed)}; name another folder, or repeat that configuration"
            )

    @contextlib.contextmanager
    def open(
        self,
        experiment: str,
        settings: Any,
        argv: Sequence[str],
        provenance: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> Iterator[None]:
        """Hold the directory for this process; record a new run in it, or go on with the old one.

        Args:
            experiment, settings: what is run.
            argv: how it was asked for.
            provenance: on what the result's bits depend beside ``settings``: "data" and, of
                weights from elsewhere, "initial" (each with its "sha256"), "devices", "source" and
                "versions".
            say: is warned where they are no longer those that the run began with.

        Raises:
            UserError: as :meth:`check`; also if it cannot be written, another process holds it, or
                the run began on other data or from other weights.
        """
        self.check(experiment, settings)
        with self.hold():
            path = self.path / "config.json"
            if path.exists():
                self._compare(self.read("config.json"), provenance, say)
            else:
                described = {"experiment": experiment, "config": config.to_dict(settings)}
                write_json(path, {**described, "argv": list(argv), **provenance})
            yield

    def _compare(
        self, began: Mapping[str, Any], now: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        """Refuse other data than the run began with; warn of other versions, source or devices."""
        before, after = config.flatten(began), config.flatten(now)
        for what, words in (("data", "on other data"), ("initial", "from other initial weights")):
            ours, theirs = after.get(f"{what}.sha256"), before.get(f"{what}.sha256")
            if ours != theirs:
                raise UserError(
                    f"--workdir={self.path}: holds a run {words} (SHA-256 {str(ours)[:12]} now "
                    f"and {str(theirs)[:12]} there); give it the same, or name another folder"
                )
        changed = [
            f"{name} is {value} now and was {before.get(name)}"
            for name, value in after.items()
            if before.get(name) != value
        ]
        if changed:
            say(
                f"warning: {'; '.join(changed)}: the result may not be, to the last bit, that of "
                f"an uninterrupted run"
            )

    def finished(self) -> bool:
        """Whether the run has its result."""
        return (self.path / "result.json").exists()

    def keep_rows(self, step: int) -> list[dict[str, Any]]:
        """Drop the rows after ``step``, which a resumed run will write again; return the others."""
        rows = [row for row in self.rows(METRICS) if row["step"] <= step]
        path = self.path / METRICS
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        return rows


def versions() -> dict[str, str]:
    """Versions of everything that figures depend on."""
    found = {"cnnjax": __version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def source_revision() -> str | None:
    """The git commit of the source, with "+" if it has changes; None outside a checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], **_QUIET)
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], **_QUIET)
    except OSError:
        return None
    if top.returncode or Path(top.stdout.split()[0]).resolve() != root.resolve():
        return None
    return top.stdout.split()[1] + ("+" if changes.stdout else "")


def command(arguments: Sequence[str]) -> str:
    """A command line that a person can paste."""
    return shlex.join([Path(sys.executable).name, "launch.py", *arguments])
