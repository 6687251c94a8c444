"""Features of the frozen part of a model, computed once for every input and kept in files."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.cache import cached
from cnnjax.data.dataset import checksum, select
from cnnjax.runtime.compilation import fingerprint
from cnnjax.training import Devices, Task
from cnnjax.training.calling import Variables
from cnnjax.training.evaluation import largest_batch
from cnnjax.training.step import draw
from cnnjax.training.task import FrozenPart
from cnnjax.training.variables import flat, nested

_FOLDER = "features"
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Precomputed:
    """What is to be trained, where the frozen part of a model has been computed.

    Attributes:
        task: of the rest, or the whole task where nothing is frozen.
        stored: [N, ...] inputs of the task, each in the view in which it is measured.
        views: float[n, views, ...], further ones of ``trained_rows``; None where there are none.
        trained_rows: int[n], those that may be trained on; None for all.
        frozen: path -> array of the frozen part's variables.
        like: collections of the whole model, shapes in place of arrays; None where nothing is
            frozen.
    """

    task: Task
    stored: Any
    views: np.ndarray | None = None
    trained_rows: np.ndarray | None = None
    frozen: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    like: Variables | None = None

    def inputs(self, rows: np.ndarray, *, trained: bool) -> Any:
        """The task's inputs of some examples, with all their views if they are trained on."""
        stored = select(self.stored, rows)
        if not trained or self.views is None:
            return stored
        places = rows
        if self.trained_rows is not None:
            places = np.searchsorted(self.trained_rows, rows)
        return np.concatenate([stored, self.views[places]], axis=1)

    def everything(self) -> Any:
        """The task's inputs of all examples; what is never trained on has one view, repeated."""
        if self.views is None:
            return self.stored
        count = self.views.shape[1] // self.stored.shape[1]
        others = np.concatenate([self.stored] * count, axis=1)
        others[slice(None) if self.trained_rows is None else self.trained_rows] = self.views
        return np.concatenate([self.stored, others], axis=1)

    def whole(self, variables: Variables) -> Variables:
        """The variables of the whole model, of those of ``task``."""
        if self.like is None:
            return variables
        return nested({**self.frozen, **flat(variables)}, self.like)


def precompute(
    task: Task,
    inputs: Any,
    devices: Devices,
    folder: Path | None = None,
    *,
    trained_rows: np.ndarray | None = None,
) -> Precomputed:
    """``task`` on the features of its frozen part, each computed once.

    Args:
        task: the model with its loss and its optimiser.
        inputs: stored inputs of all examples [N, ...].
        devices: those that compute, and the way in which they share a batch.
        folder: data directory, in which features are kept by all that they depend on: the
            program that computes them, its parameters, the inputs, versions and hardware.
        trained_rows: int[n], sorted, those of which more than the plain view is wanted; by default
            all.
    """
    if task.frozen is None:
        return Precomputed(task, inputs)
    initial, frozen = dict(task.initial), task.frozen
    run = devices.apply(frozen.features)
    made_by = _made_by(frozen, initial, inputs) if folder else ""
    batch_size = min(_BATCH, largest_batch(inputs))

    def features(inputs: Any) -> np.ndarray:
        compute = lambda: {"features": run(initial, inputs, min(batch_size, len(inputs)))}
        key = hashlib.sha256((made_by + checksum(inputs)).encode()).hexdigest()[:24]
        return cached(folder and folder / _FOLDER / f"{key}.npz", compute)["features"]

    seen = select(inputs, trained_rows)
    look: Any = task.views  # there is one where more than the plain view is stored
    views = [look(seen, 0, view) for view in range(1, frozen.stored_views) if len(seen)]
    return Precomputed(
        frozen.head,
        features(inputs),
        np.concatenate(list(map(features, views)), axis=1) if views else None,
        trained_rows,
        initial,
        jax.eval_shape(functools.partial(draw, task), jax.random.key(0), _one_of(inputs)),
    )


def _made_by(frozen: FrozenPart, initial: Mapping[str, np.ndarray], inputs: Any) -> str:
    """A digest of the program and the values that features of such inputs depend on."""
    like = lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype)
    program = fingerprint(frozen.features, jax.tree.map(like, initial), _one_of(inputs))
    return program + checksum(*(initial[path] for path in sorted(initial)))


def _one_of(inputs: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
