"""What tests of transfer share: a small data set's spec, random weights, a task that is started."""

import functools
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

import experiments
from cnnjax.config import override
from cnnjax.data import Spec
from cnnjax.data.folds import pool
from cnnjax.experiment import record, trial
from cnnjax.models import LeNet1
from cnnjax.training import Devices, Task
from cnnjax.training.variables import flat, nested
from cnnjax.transfer.precomputed import precompute
from cnnjax.transfer.stages import shapes
from experiments.transfer import Config

TRANSFER = record.load(experiments, "transfer")

SPEC = Spec((8, 8, 1), ("a", "b", "c", "d", "e"), 20)
SINGLE = functools.partial(Devices, "single")
C1, C3 = ({f"backbone/{name}/{leaf}" for leaf in ("kernel", "bias")} for name in ("C1", "C3"))
HEAD = {"head/kernel", "head/bias"}


def drawn(wanted, seed=0):
    """Path -> random values for each array of these shapes; drawing in JAX compiles too long."""
    random = np.random.RandomState(seed)
    return {path: (0.2 * random.randn(*leaf.shape)).astype("f4") for path, leaf in wanted.items()}


def lenet_file(folder):
    """A file with weights of a LeNet-1 for images of one channel, in our own names."""
    path = folder / "lenet1.safetensors"
    save_file(drawn(shapes(LeNet1(), (28, 28, 1)), seed=3), path)
    return path


def config_of(weights, **changes) -> Config:
    """A short training; ``hparams__decay`` stands for ``hparams.decay``."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    short = Config(weights=str(weights), epochs=2, batch_size=10, distortions=False)
    return override(short, changes)


def task_of(config, spec=SPEC) -> Task:
    """The task with its initial weights."""
    return trial.task_of(TRANSFER, config, spec, Path("unused"))


def params_of(task, spec=SPEC):
    """Its initial weights, and random values for the head."""
    inputs = jax.eval_shape(task.prepare, jax.ShapeDtypeStruct((1, *spec.shape), np.uint8))
    like = jax.eval_shape(task.model.init, jax.random.key(0), inputs)
    return nested(drawn(flat(like)) | dict(task.initial), like)["params"]


def precomputed(task, splits, folder=None):
    """What of the examples of ``splits`` is computed once, and the splits that are trained on."""
    everything, rows = pool(splits)
    once = precompute(task, everything["inputs"], SINGLE(), folder, trained_rows=rows["train"])
    seen = {
        name: {"inputs": once.inputs(rows[name], trained=name == "train"), "labels": part["labels"]}
        for name, part in splits.items()
    }
    return once, seen


def moved(before, after):
    """The names of the parameters of which any bit differs."""
    before, after = (flatten_dict(tree, sep="/") for tree in (before, after))
    assert before.keys() == after.keys()
    return {name for name in before if not np.array_equal(before[name], after[name])}
