"""draft"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import struct
from flax.linen.initializers import he_uniform

from cnnjax import ops
from cnnjax.config import setting
from cnnjax.data import Rows, Spec
from cnnjax.data.dataset import stratified_parts
from cnnjax.errors import UserError
from cnnjax.layers import fan_in_uniform
from cnnjax.models import ZipCodeNet
from cnnjax.models.strategies import SIZE
from cnnjax.sweeps import axis, chain, product
from cnnjax.sweeps.axes import Changes
from cnnjax.training import Plan, Task, cross_entropy, squared_error

SUMMARY = "the zip-code network (LeCun et al. 1989), as published and step by step modernised"

# Rung -> what it changes: each has the changes of those before it, too.
RUNGS: dict[str, dict[str, Any]] = {
    "as published": {"loss": "squared_error"},
    "softmax cross-entropy": {"loss": "cross_entropy"},
    "AdamW": {
        "optimizer": "adamw", "batch_size": 16, "epochs": 46, "hparams.learning_rate": 0.002,
    },
    "shifts": {"shift": 1, "epochs": 80},
    "ReLU, dropout": {
        "activation": "relu", "initial": "he", "hparams.dropout": 0.25, "epochs": 120,
    },
}  # fmt: skip
# Error on the test images, %: the paper's on its zip codes, and Karpathy's ("Deep neural nets: 33
# years ago and 33 years from now", 2022), one run of each on 16x16 MNIST.
_PAPER, _KARPATHY = "LeCun et al. 1989", "Karpathy 2022"
PUBLISHED = {
    "as published": {_PAPER: 5.0, _KARPATHY: 4.09},
    "softmax cross-entropy": {_KARPATHY: 4.38},
    "AdamW": {_KARPATHY: 3.59},
    "shifts": {_KARPATHY: 2.19},
    "ReLU, dropout": {_KARPATHY: 1.59},
}


def _ladder() -> dict[str, Changes]:
    """Rung -> all its changes."""
    together = itertools.accumulate(RUNGS.values(), lambda before, more: before | more)
    return dict(zip(RUNGS, together, strict=True))


ABLATIONS = {
    "ladder": chain(
        *(product((changes,), axis("seed", range(5))) for changes in _ladder().values())
    ),
}
_LOSSES = {"squared_error": squared_error, "cross_entropy": cross_entropy}
_INITIAL = {"fan_in": fan_in_uniform(), "he": he_uniform()}
_BACKGROUND = -1.0


@struct.dataclass
class Hparams:
    """What a trial may vary without a new program."""

    learning_rate: float = setting(0.006, "of its schedule, the start", above=0)
    weight_decay: float = setting(0.01, "adamw's, per unit of learning rate", minimum=0)
    dropout: float = setting(0.0, "rate of H2's units", minimum=0, below=1)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that the result depends on."""

    dataset: str = setting("mnist", "mnist, usps, digits, fashion_mnist or tfds:NAME")
    loss: Literal["squared_error", "cross_entropy"] = setting(
        "squared_error", "of scaled tanh outputs to targets of ±1, or of softmax on linear ones"
    )
    activation: Literal["tanh", "relu"] = setting("tanh", "of the hidden layers")
    initial: Literal["fan_in", "he"] = setting(
        "fan_in", "weights, uniform: the paper's ±2.4 / fan-in, or He's for ReLU"
    )
    shift: int = setting(0, "pixels that training images are moved by, at most", minimum=0)
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "the optimiser")
    schedule: Literal["cosine", "constant"] = setting("cosine", "of the learning rate")
    epochs: int = setting(23, "passes over the training split", minimum=1)
    batch_size: int = setting(1, "examples in an update", minimum=1)
    seed: int = setting(
        0, "of the draw of the images, initial weights, order, shifts and dropout",
        minimum=0, below=2**32,
    )  # fmt: skip
    train: int = setting(7291, "training images, or all that validation leaves", minimum=1)
    test: int = setting(2007, "test images, or all there are", minimum=1)
    validation: int = setting(291, "training images held out, which decide nothing", minimum=1)
    hparams: Hparams = setting(Hparams(), "hyperparameters that are traced")


def plan(config: Config) -> Plan:
    """How long to train; the paper keeps the last parameters."""
    return Plan(config.epochs, config.batch_size, config.seed, select="last")


def task(config: Config, spec: Spec) -> Task:
    """The network, and how it is trained.

    Raises:
        UserError: data that is not grey images.
    """
    if spec.shape[-1] != 1:
        raise UserError(
            f"the zip-code network takes grey images; {config.dataset} has {spec.shape[-1]} "
            f"channels"
        )
    steps = config.epochs * math.ceil(spec.examples / config.batch_size)
    return Task(
        model=ZipCodeNet(
            classes=len(spec.classes),
            activation=config.activation,
            squashed=config.loss == "squared_error",
            kernel_init=_INITIAL[config.initial],
        ),
        optimizer=functools.partial(_optimizer, config, steps),
        prepare=_prepare,
        loss=_LOSSES[config.loss],
        augment=functools.partial(_shift, config.shift) if config.shift else None,
    )


def rows(config: Config, labels: np.ndarray, splits: Rows) -> Rows:
    """A stratified draw, anew for every seed: test images from the test split, others not from it.

    Raises:
        UserError: as many validation images as there are to learn from.
    """
    learning = np.concatenate([splits["train"], splits["validation"]])
    if config.validation >= len(learning):
        raise UserError(
            f"config.validation={config.validation}: leaves nothing to train on of the "
            f"{len(learning):,} images that are not for testing"
        )
    train = min(config.train, len(learning) - config.validation)
    validation, train = _draw(labels, learning, (config.validation, train), config.seed)
    (test,) = _draw(labels, splits["test"], (min(config.test, len(splits["test"])),), config.seed)
    return {"train": train, "validation": validation, "test": test}


def report(trials: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write a table and a picture of the ladder beside the published figures.

    Args:
        trials: the rows of a sweep.
        folder: where.

    Returns:
        The files written: none if a trial of the sweep is on no rung, or none is finished.
    """
    from cnnjax.reports.ladder import write_ladder  # matplotlib takes long to import

    found = rungs(trials)
    finished = next((trial for trial in trials if trial["status"] == "finished"), None)
    if not found or not finished:
        return []
    title = (
        f"The zip-code network on {finished['config']['dataset']}: "
        f"{finished['train']['count']:,} training and {finished['test']['count']:,} test images"
    )
    return write_ladder(folder, found, title)


def rungs(trials: Sequence[Mapping[str, Any]]) -> list[Any]:
    """A sweep's rows as :class:`cnnjax.reports.ladder.Rung`; none if a row is on no rung."""
    from cnnjax.reports.ladder import Rung

    by_rung: dict[str, list[Mapping[str, Any]]] = {name: [] for name in RUNGS}
    for trial in trials:
        changes = {path: v for path, v in trial["changes"].items() if path != "seed"}
        name = next((name for name, own in _ladder().items() if own == changes), None)
        if name is None:
            return []
        by_rung[name].append(trial)
    return [
        Rung(name, own[0]["config"]["epochs"], _errors(own, "test"), _errors(own, "train"),
             PUBLISHED[name])
        for name, own in by_rung.items()
        if own
    ]  # fmt: skip


def _errors(trials: Sequence[Mapping[str, Any]], split: str) -> dict[int, float]:
    """Seed -> error in percent, of finished trials."""
    return {
        trial["config"]["seed"]: 100 * (1 - trial[split]["accuracy"])
        for trial in trials
        if trial["status"] == "finished"
    }


def _draw(
    labels: np.ndarray, members: np.ndarray, sizes: Sequence[int], seed: int
) -> list[np.ndarray]:
    """Disjoint stratified draws of these sizes from ``members``."""
    parts = stratified_parts(labels[members], [size / len(members) for size in sizes], seed)
    return [members[part] for part in parts[: len(sizes)]]


def _optimizer(config: Config, steps: int, hparams: Hparams) -> optax.GradientTransformation:
    rate = hparams.learning_rate
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, steps)
    if config.optimizer == "sgd":
        return optax.sgd(rate)
    return optax.adamw(rate, weight_decay=hparams.weight_decay)


def _shift(most: int, keys: jax.Array, images: jax.Array, hparams: Hparams) -> jax.Array:
    return ops.random_shift(images, keys, most, fill=_BACKGROUND)


def _prepare(images: jax.Array) -> jax.Array:
    """Stored images [N, h, w, 1] -> float32[N, 16, 16, 1], background -1 and foreground 1."""
    return ops.resize_by_area(2 * ops.intensity(images) - 1, SIZE)
