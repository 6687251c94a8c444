"""Features of a fixed backbone, computed once for every input and kept in a file."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from cnnjax.cache import cached
from cnnjax.data.dataset import checksum
from cnnjax.runtime.compilation import fingerprint
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import largest_batch
from cnnjax.training.task import FrozenPart, Task

_FOLDER = "features"
_BATCH = 64
_HELD_OUT = ("validation", "test")  # of which only the first view is looked at


@dataclasses.dataclass(frozen=True)
class Precomputed:
    """What is to be trained, where the fixed part of a model has been computed.

    Attributes:
        task: of the rest, or the whole task where nothing is fixed.
        splits: with features as "inputs" where something is.
        whole: the parameters of ``task`` -> those of the whole model.
    """

    task: Task
    splits: dict[str, Mapping[str, np.ndarray]]
    whole: Callable[[Any], Any]


def precompute(
    task: Task,
    splits: Mapping[str, Mapping[str, np.ndarray]],
    devices: Devices,
    folder: Path | None = None,
) -> Precomputed:
    """``task`` on the features of its fixed part, each computed once.

    Args:
        task: what is learned, and how.
        splits: each with "inputs" and "labels".
        devices: where.
        folder: data directory, in which features are kept by all that they depend on: the
            program that computes them, its parameters, the inputs, versions and hardware.
    """
    if task.frozen is None:
        return Precomputed(task, dict(splits), lambda params: params)
    params = unflatten_dict(dict(task.initial), sep="/")
    found = {}
    for name, split in splits.items():
        inputs = split["inputs"]
        count = 1 if name in _HELD_OUT else task.frozen.stored_views
        seen = [inputs, *(task.views(inputs, 0, view) for view in range(1, count))]
        found[name] = {**split, "inputs": _features(task.frozen, params, seen, devices, folder)}
    return Precomputed(task.frozen.head, found, lambda trained: {**params, **trained})


def _features(
    fixed: FrozenPart, params: Any, seen: Sequence[Any], devices: Devices, folder: Path | None
) -> np.ndarray:
    """float[N, views, ...] of the same inputs seen several times, each from the file if kept."""
    run = devices.apply(fixed.features)
    made_by = folder and _made_by(fixed, params, seen[0])
    batch_size = min(_BATCH, largest_batch(seen[0]), len(seen[0]))

    def features_of(inputs: Any) -> np.ndarray:
        path = folder and folder / _FOLDER / f"{_key(made_by, inputs)}.npz"
        return cached(path, lambda: {"features": run(params, inputs, batch_size)})["features"]

    return np.concatenate([features_of(inputs) for inputs in seen], axis=1)


def _made_by(fixed: FrozenPart, params: Any, inputs: Any) -> str:
    """A digest of the program and the parameters that features of such inputs depend on."""
    like = lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype)
    program = fingerprint(fixed.features, jax.tree.map(like, params), like(inputs[:1]))
    return program + checksum(*jax.tree.leaves(params))


def _key(made_by: str, inputs: Any) -> str:
    """A digest of all that the features of ``inputs`` depend on."""
    return hashlib.sha256((made_by + checksum(inputs)).encode()).hexdigest()[:24]
