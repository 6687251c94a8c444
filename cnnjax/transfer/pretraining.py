"""Parameters learned once, kept in a file, and started from elsewhere."""

import dataclasses
import functools
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import optax
from flax import struct

from cnnjax.cache import cached
from cnnjax.data import DataSet, load
from cnnjax.runtime.compilation import fingerprint
from cnnjax.training import Devices, Plan, Task, fit, measure, predict, schedules
from cnnjax.training.progress import init_progress, no_totals, step_on_rows
from cnnjax.training.task import Hparams
from cnnjax.training.variables import flat
from cnnjax.transfer.backbones import backbone
from cnnjax.transfer.views import distort

SOURCE = "digits:01234"
"""What the LeNets are pretrained on."""

_FOLDER = "pretrained"
_PLAN = Plan(epochs=40, batch_size=64, select="last")
# Amounts of ops.random_warp.
_DISTORTIONS = {
    "shift": 2.0, "scaling": 0.2, "squeezing": 0.2, "shearing": 0.3, "rotation": 0.3,
    "bending": 1.0,
}  # fmt: skip


@struct.dataclass
class _Hparams:
    """Of pretraining."""

    learning_rate: float = 0.005
    weight_decay: float = 0.01


@functools.cache
def lenet_of_digits(name: str, folder: Path) -> Mapping[str, np.ndarray]:
    """The variables of a LeNet that was trained on :data:`SOURCE`, path -> array.

    Args:
        name: of a backbone.
        folder: data directory, in which they are kept.
    """
    dataset = load(SOURCE)
    network = backbone(name, dataset.spec.shape, SOURCE)
    steps = _PLAN.epochs * math.ceil(dataset.spec.examples / _PLAN.batch_size)
    learned = Task(
        model=network.model(network.last, len(dataset.classes)),
        optimizer=functools.partial(_adamw, steps),
        prepare=network.prepare,
        augment=functools.partial(distort, _DISTORTIONS),
    )
    return pretrained(name, learned, dataset, _Hparams(), _PLAN, folder)


def _adamw(steps: int, hparams: _Hparams) -> optax.GradientTransformation:
    schedule = schedules.cosine(hparams.learning_rate, steps)
    return optax.adamw(schedule, weight_decay=hparams.weight_decay)


def pretrained(
    name: str, task: Task, dataset: DataSet, hparams: Hparams, plan: Plan, folder: Path
) -> dict[str, np.ndarray]:
    """The variables of ``task`` trained on ``dataset``, path -> array: from the file, or learned.

    The file is ``folder/pretrained/NAME-DIGEST.npz``; the digest is of everything that it depends
    on: the programs that draw and train, hyperparameters, plan and data, versions and hardware.

    Args:
        name: of what is trained, for the file and for the line on standard error that says so.
        task: the model with its loss and its optimiser.
        dataset: from :func:`cnnjax.data.load`.
        hparams: of the training.
        plan: of the training.
        folder: data directory.
    """
    hparams = jax.tree.map(np.float32, hparams)
    key = _key(task, dataset, hparams, plan)
    path = folder / _FOLDER / f"{name}-{key}.npz"

    def learn() -> dict[str, np.ndarray]:
        print(f"pretraining {name} on {dataset.name} (once), into {path}", file=sys.stderr)
        devices = Devices("single")
        fitted = fit(task, dataset.splits, hparams, plan, devices=devices)
        test = dataset.splits["test"]
        logits = predict(task, devices)(fitted.variables, test["inputs"])
        found = measure(task, logits, test["labels"], hparams)
        print(f"pretrained: test accuracy {found['accuracy']:.4f}", file=sys.stderr)
        return flat(jax.device_get(fitted.variables))

    return cached(path, learn)


def _key(task: Task, dataset: DataSet, hparams: Hparams, plan: Plan) -> str:
    like = functools.partial(
        jax.tree.map, lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype)
    )
    train = {name: np.asarray(dataset.splits["train"][name]) for name in ("inputs", "labels")}
    start = functools.partial(init_progress, task)
    arguments = like((train["inputs"][:1], hparams, np.uint32(0)))
    state = jax.eval_shape(start, *arguments).state
    rows = np.zeros((1, min(plan.batch_size, len(train["labels"]))), np.int32)
    step = functools.partial(step_on_rows, task)
    carry = like((state, jax.tree.map(np.asarray, no_totals())))
    programs = (
        fingerprint(start, *arguments),
        fingerprint(step, carry, like(train), *like((rows, rows.astype(np.float32), hparams))),
    )
    rest = dataclasses.asdict(plan), [float(h) for h in jax.tree.leaves(hparams)]
    parts = *programs, dataset.provenance["sha256"], json.dumps(rest)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
