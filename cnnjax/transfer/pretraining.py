"""Parameters learned once, kept in a file, and started from elsewhere."""

import dataclasses
import functools
import hashlib
import json
import sys
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from cnnjax.cache import cached
from cnnjax.data import DataSet
from cnnjax.runtime.compilation import fingerprint
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import measure, predict
from cnnjax.training.loop import fit
from cnnjax.training.plan import Plan
from cnnjax.training.progress import init_progress, no_totals, step_on_rows
from cnnjax.training.task import Hparams, Task

_FOLDER = "pretrained"


def pretrained(
    name: str, task: Task, dataset: DataSet, hparams: Hparams, plan: Plan, folder: Path
) -> dict[str, np.ndarray]:
    """The parameters of ``task`` trained on ``dataset``, path -> array: from the file, or learned.

    The file is ``folder/pretrained/NAME-DIGEST.npz``; the digest is of everything that it depends
    on: the programs that draw and train, hyperparameters, plan and data, versions and hardware.

    Args:
        name: of what is trained, for the file and for the line on standard error that says so.
        task: what is learned, and how.
        dataset: from :func:`cnnjax.data.load`.
        hparams, plan: how.
        folder: data directory.
    """
    hparams = jax.tree.map(np.float32, hparams)
    key = _key(task, dataset, hparams, plan)
    path = folder / _FOLDER / f"{name}-{key}.npz"

    def learn() -> dict[str, np.ndarray]:
        print(f"pretraining {name} on {dataset.name} (once), into {path}", file=sys.stderr)
        devices = Devices("single")
        params = jax.device_get(fit(task, dataset.splits, hparams, plan, devices=devices).params)
        test = dataset.splits["test"]
        logits = predict(task, devices)(params, test["inputs"])
        found = measure(task, logits, test["labels"], hparams)
        print(f"pretrained: test accuracy {found['accuracy']:.4f}", file=sys.stderr)
        return flatten_dict(params, sep="/")

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
