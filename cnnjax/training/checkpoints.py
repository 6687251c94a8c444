"""Checkpoints: Orbax for the arrays, checksums of our own for trust.

Orbax finishes a checkpoint with a rename, so a kill leaves none half-written; but it restores
flipped bytes without an error.  Beside every finished step ``N`` therefore lies ``N.sha256``
with the checksum of each of its files, in the format of ``sha256sum -c``.  A step counts only
when all of them match.

Of several processes only the leader reads and writes: the state is the same in all, so they
need no common disk.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cnnjax.errors import UserError
from cnnjax.files.durable import checksums
from cnnjax.runtime import processes


class Checkpoints:
    """The checkpoints of one run; of several processes, all make the same calls.

    Args:
        directory: created when the first step is saved.
        keep: how many of the latest steps are kept; older ones serve where a newer is damaged.
            The best parameters so far are part of every checkpoint.
        every_seconds: how often :meth:`due` says yes.
        warn: is told, in one line, of a damaged checkpoint.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: int = 2,
        every_seconds: float = 30.0,
        warn: Callable[[str], None] = lambda message: None,
    ):
        self.directory = Path(directory).absolute()
        self._keep = keep
        self._every_seconds = every_seconds
        self._last_save = time.monotonic()
        self._warn = warn
        self._manager: ocp.CheckpointManager | None = None

    def due(self) -> bool:
        """Whether ``every_seconds`` have passed since the last save."""
        return time.monotonic() - self._last_save >= self._every_seconds

    def save(self, step: int, tree: Any, meta: Mapping[str, Any]) -> None:
        """Save ``tree`` (a pytree of arrays) and ``meta`` (plain JSON) as ``step``, durably."""
        processes.from_leader(lambda: self._save(step, tree, meta))
        self._last_save = time.monotonic()

    def _save(self, step: int, tree: Any, meta: Mapping[str, Any]) -> None:
        arguments = ocp.args.Composite(
            tree=ocp.args.StandardSave(jax.device_get(tree)), meta=ocp.args.JsonSave(dict(meta))
        )
        manager = self._open()
        if not manager.save(step, args=arguments):
            raise RuntimeError(f"{self.directory}: step {step} is not later than what is there")
        manager.wait_until_finished()
        _write_durably(self._manifest(step), checksums(self.directory / str(step)))
        for manifest in self.directory.glob("*.sha256"):
            if not (self.directory / manifest.stem).is_dir():
                manifest.unlink()

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest step whose checksums match, or None where nothing was saved.

        Damaged steps that are newer are set aside as ``damaged-N``, with a warning; so is the only
        step where its save was not finished.

        Args:
            like: a pytree of arrays: structure, shapes, types and placement of the result.

        Returns:
            The tree and the meta saved with it.

        Raises:
            UserError: there are checkpoints, but every one is damaged.
        """
        saved: tuple[Any, dict[str, Any]] | None = None

        def read() -> dict[str, Any] | None:
            nonlocal saved
            saved = self._restore(like)
            return saved and saved[1]

        meta = processes.from_leader(read)
        if meta is None:
            return None
        tree = processes.arrays_from_leader(saved[0] if saved else like)
        return jax.tree.map(_placed_as, tree, like), meta

    def _restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The tree, as NumPy arrays, and the meta."""
        good, steps = self._latest(), self._steps()
        if good is None and (len(steps) > 1 or any(map(self._has_manifest, steps))):
            raise UserError(
                f"{self.directory}: no checkpoint is undamaged; restore it from a copy, or "
                f"start over in another folder"
            )
        # A kill between Orbax's rename and our checksums leaves a step without them.
        for step in steps:
            if good is None or step > good:
                aside = self._set_aside(step)
                self._warn(
                    f"{self.directory / str(step)} is damaged or was not finished (its checksums "
                    f"do not match); it is now {aside.name}, and training goes on from "
                    f"{'the start' if good is None else f'step {good:,}'}"
                )
        if good is None:
            return None
        targets = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        arguments = ocp.args.Composite(
            tree=ocp.args.StandardRestore(targets), meta=ocp.args.JsonRestore()
        )
        try:
            restored = self._open().restore(good, args=arguments)
        except (ValueError, KeyError):  # Orbax's many lines name every array
            raise UserError(
                f"{self.directory / str(good)}: holds a state of another structure, as another "
                f"version of cnnjax saves it; go on with that version, or start over in another "
                f"folder"
            ) from None
        return restored["tree"], restored["meta"]

    def latest(self) -> int | None:
        """The newest step whose checksums match."""
        return processes.from_leader(self._latest)

    def _latest(self) -> int | None:
        for step in reversed(self._steps()):
            found = checksums(self.directory / str(step))
            if self._has_manifest(step) and self._manifest(step).read_bytes() == found:
                return step
        return None

    def _steps(self) -> list[int]:
        names = (path.name for path in self.directory.glob("*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdigit())

    def _manifest(self, step: int) -> Path:
        return self.directory / f"{step}.sha256"

    def _has_manifest(self, step: int) -> bool:
        return self._manifest(step).exists()

    def _set_aside(self, step: int) -> Path:
        aside = self.directory / f"damaged-{step}"
        shutil.rmtree(aside, ignore_errors=True)
        (self.directory / str(step)).rename(aside)
        self._manifest(step).unlink(missing_ok=True)
        return aside

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                enable_async_checkpointing=False,
                create=False,
                # Orbax would otherwise wait for the other processes.
                multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
            )
            self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        return self._manager


def _placed_as(array: np.ndarray, like: jax.Array) -> jax.Array:
    return jax.make_array_from_callback(array.shape, like.sharding, lambda index: array[index])


def _write_durably(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
