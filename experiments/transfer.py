"""Transfer learning: what a network learned from much data, used where there is little.

    python launch.py --experiment=transfer

fine-tunes a LeNet-1, which learned the digits 0 to 4 (once, in some seconds), on 5 images of each
of the digits 5 to 9.  The lecture's "little data: what to do?" in one picture, transfer.png, each
strategy's accuracy against the number of images, is

    python launch.py --experiment=transfer --sweep=shots

and a linear classifier on features of a published network, each computed once,

    python launch.py --experiment=transfer --config.backbone=resnet18 --config.strategy=linear \\
        --config.weights=resnet18.pth --config.dataset=folder:PATH --config.shots=none

Figures of all named sweeps and of photographs of ants and bees, and what the settings rest on, are
in docs/transfer.md.  Named sweeps: strategies (all on one target); shots (against the number of
images); layers, a linear classifier on every stage of the pretrained and of a random network; and
scenarios, cs231n's four cases, little and much data of a similar and of a different task.
Different are the same digits with their pixels shuffled, by one permutation for all: nothing of a
stroke is left.

How it is done
* A stage is a feature with parameters that no feature before it depends on, found by tracing
  (:mod:`cnnjax.transfer.stages`): the same rule freezes LeNets and ResNets, by parameter path.
* Rates are smaller below: a stage's is the one above it times hparams.decay; gradual lets one stage
  after another join, from the top, evenly up to the share hparams.pace of the epochs (Howard and
  Ruder 2018, sections 3.2 and 3.3).  What is frozen has neither weight decay nor state.
* Batch normalisation always uses the statistics that come with the weights (scratch: 0 and 1).
* linear computes the features of each view once, and keeps them in the data directory.  With
  distortions these are of --config.views stored views of a training image, one of which is drawn in
  every epoch; all other strategies see new distortions of the same amounts.  Photographs in files
  are cropped at random and mirrored instead (torchvision's RandomResizedCrop).

* The head starts at zero, in every strategy.  Scratch, too, trains on distorted images.
* The last layers of LeNet-5 and of the modern LeNet know the classes that they were trained to tell
  apart: take --config.features=S4.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import struct

from cnnjax import config as configuration
from cnnjax import data
from cnnjax.config import setting
from cnnjax.data import DataSet, Rows, Spec
from cnnjax.data.folds import few_shots
from cnnjax.errors import UserError
from cnnjax.experiment.record import Experiment
from cnnjax.runtime import processes
from cnnjax.runtime.compilation import jit
from cnnjax.sweeps import axis, chain, grid, product, zipped
from cnnjax.training import Plan, Task, init_state
from cnnjax.training.task import FrozenPart
from cnnjax.training.variables import flat
from cnnjax.transfer import Head, strategies, views
from cnnjax.transfer.backbones import LENETS, Backbone, backbone
from cnnjax.transfer.freezing import FROZEN, Depths
from cnnjax.transfer.pretraining import SOURCE, lenet_of_digits
from cnnjax.transfer.strategies import STRATEGIES, Strategy

RANDOM = "random"
SWEEPS = {
    "strategies": grid(strategy=STRATEGIES, seed=range(20)),
    # 60, 60, 90 and 150 updates, and most seeds where the draw of images matters most; all of them
    # seeds that had no part in choosing the settings.
    "shots": chain(
        grid(strategy=STRATEGIES, shots=(5,), seed=range(1000, 1040)),
        product(
            grid(strategy=STRATEGIES),
            zipped(axis("shots", (10, 20, 50)), axis("epochs", (60, 45, 30))),
            grid(seed=range(1000, 1020)),
        ),
    ),
    "layers": product(
        grid(strategy=("linear",), distortions=(False,), weights=("", RANDOM)),
        grid(features=("C1", "S2", "C3", "S4")),
        chain(grid(shots=(5, 20)), grid(shots=(None,), epochs=(20,))),
        grid(seed=range(20)),
    ),
    "scenarios": product(
        grid(distortions=(False,), pixels=("plain", "shuffled")),
        chain(grid(shots=(5,)), grid(shots=(None,), epochs=(20,))),
        chain(
            grid(strategy=("scratch", "linear", "finetune")),
            grid(strategy=("linear",), features=("S2",)),
        ),
        grid(seed=range(20)),
    ),
}
# Amounts of ops.random_warp: those of experiments/lenet.py.
_DISTORTIONS = {"shift": 2.0, "scaling": 0.1, "squeezing": 0.1, "shearing": 0.15}
_PRETRAINED = tuple(strategy for strategy in STRATEGIES if strategy != "scratch")


@struct.dataclass
class Hparams:
    """What a trial may vary without a new program."""

    learning_rate: float = setting(0.01, "of AdamW at the top, start of the cosine", above=0)
    weight_decay: float = setting(0.01, "decoupled, per unit of learning rate", minimum=0)
    decay: float = setting(
        0.5,
        "of the rate, for each stage further below the head",
        minimum=0,
        only={"strategy": ("partial", "gradual", "finetune")},
    )
    pace: float = setting(
        0.5,
        "share of the epochs after which all stages are trained (above 1: never)",
        minimum=0,
        only={"strategy": ("gradual",)},
    )


@dataclasses.dataclass(frozen=True)
class Config(configuration.Config):
    """Everything that the result depends on."""

    dataset: str = setting("digits:56789", "images: digits:CLASSES, mnist, folder:PATH, ...")
    backbone: Literal[
        "lenet1", "lenet4", "lenet5", "modern", "resnet18", "resnet34", "resnet50", "resnet20",
        "resnet32", "resnet44", "resnet56", "squeezenet",
    ] = setting("lenet1", "the network that is transferred")  # fmt: skip
    weights: str = setting(
        "",
        f"what it starts from: .pth, .safetensors, .npz, .h5, a folder, a run or a published name; "
        f"{RANDOM}: drawn once, for comparison; empty: a LeNet that learned {SOURCE}",
        only={"strategy": _PRETRAINED},
    )
    strategy: Strategy = setting(
        "finetune", "what is trained: all from random weights, the head, the upper stages, "
        "stage after stage from the top, all",
    )  # fmt: skip
    features: str | None = setting(None, "stage that the head reads; none: the last")
    unfreeze_from: str | None = setting(
        None,
        "the lowest stage that is trained; none: the highest",
        only={"strategy": ("partial",)},
    )
    shots: int | None = setting(5, "training images a class, drawn by the seed", minimum=1)
    pixels: views.Pixels = setting("plain", "what the images look like: a different task")
    distortions: bool = setting(
        True,
        "LeNets: train on images under random affine maps; other networks, on images in files: on "
        "random crops; linear: on stored views of either kind",
    )
    views: int = setting(
        20,
        "how many of an image are stored, itself included",
        minimum=1,
        only={"strategy": ("linear",), "distortions": (True,)},
    )
    epochs: int = setting(60, "passes over the training images", minimum=1)
    batch_size: int = setting(50, "images in an update", minimum=1)
    seed: int = setting(
        0, "of the draw of images, initial weights and order", minimum=0, below=2**32
    )
    hparams: Hparams = setting(Hparams(), "hyperparameters that are traced")


def plan(config: Config) -> Plan:
    """How long to train; no epoch is chosen, the last parameters count."""
    return Plan(config.epochs, config.batch_size, config.seed, select="last")


def rows(config: Config, labels: np.ndarray, splits: Rows) -> Rows | None:
    """The data's own splits, but for ``shots`` training images of every class.

    Raises:
        UserError: a class with fewer images.
    """
    if config.shots is None:
        return None
    return splits | {
        "train": few_shots(labels, splits["train"], config.shots, config.seed, config.dataset)
    }


def task(config: Config, spec: Spec) -> Task:
    """The network for images of this kind, and what of it is trained.

    Raises:
        UserError: images that the network cannot take, a stage that it has not, weights that are
            missing, or settings that do not fit each other.
    """
    spec.require_images(config.dataset)
    network, feature, depths = _parts(config, spec)
    if config.strategy != "scratch" and not config.weights and config.backbone not in LENETS:
        raise UserError(
            f"config.backbone={config.backbone} needs weights that it starts from: "
            f"--config.weights=FILE (only the LeNets are pretrained here); or take "
            f"--config.weights={RANDOM} or --config.strategy=scratch"
        )
    steps = math.ceil(spec.examples / config.batch_size)
    optimizer = functools.partial(
        strategies.optimizer, strategy=config.strategy, epochs=config.epochs, steps=steps
    )
    distort = functools.partial(views.distort, _DISTORTIONS)
    whole = Task(
        model=network.model(feature, len(spec.classes)),
        optimizer=lambda hparams: optimizer(depths, hparams=hparams),
        prepare=functools.partial(views.prepare, config.pixels, network),
        augment=distort if _distorts(config) else None,
        views=data.random_crops if _crops(config) else None,
    )
    if config.strategy != "linear":
        return whole
    of_head = {path: depth for path, depth in depths.items() if depth is not FROZEN}
    head = Task(
        model=Head(len(spec.classes)),
        optimizer=lambda hparams: optimizer(of_head, hparams=hparams),
        augment=views.any_view if _varies(config) else None,
    )
    of_features = config.views if _distorts(config) else 1
    features = functools.partial(
        views.features, network, feature, config.pixels, of_features, _DISTORTIONS
    )
    stored_views = config.views if _crops(config) else 1  # a LeNet's are made by its features
    return dataclasses.replace(whole, frozen=FrozenPart(features, head, stored_views))


def initial(config: Config, spec: Spec, data_dir: Path) -> Mapping[str, np.ndarray]:
    """The weights that the backbone starts from: path -> array.

    Raises:
        UserError: a file that cannot be read or does not fit the network.
    """
    if config.strategy == "scratch":
        return {}
    network, feature, _ = _parts(config, spec)
    if config.weights == RANDOM:
        draw = functools.partial(init_state, task(config, spec), 0, hparams=config.hparams)
        drawn = flat(jit(draw, seldom=True)(np.zeros((1, *spec.shape), np.uint8)).variables)
        return {path: np.asarray(drawn[path]) for path in drawn if path.startswith("backbone/")}
    if config.weights:
        return network.read(config.weights, spec.shape, feature, data_dir)
    if processes.several():
        raise UserError("config.weights: several processes need a file of weights to start from")
    arrays = lenet_of_digits(config.backbone, data_dir)
    return network.merged(arrays, f"{config.backbone} of {SOURCE}", spec.shape, feature)


def remarks(config: Config, dataset: DataSet) -> list[str]:
    """What is trained and what is not.

    Raises:
        UserError: as :func:`task`.
    """
    learned = task(config, dataset.spec)
    network, feature, depths = _parts(config, dataset.spec)
    what = strategies.description(network, dataset.spec.shape, feature, depths, learned)
    trained = f"{config.strategy}: {what}"
    if config.strategy == "linear" and _varies(config):
        trained += f"; on features of {config.views} views of an image, computed once"
    return [trained]


def report(trials: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write a table of every setting, and a picture where the number of images varies.

    Args:
        trials: the rows of a sweep.
        folder: where.

    Returns:
        The files written.
    """
    from cnnjax.reports.shots import write_shots  # matplotlib takes long to import

    if not trials:
        return []
    own = trials[0]["config"]
    title = f"{own['backbone']} from {own['weights'] or SOURCE} to {own['dataset']}"
    return write_shots(folder, trials, title, panels="pixels", reference="scratch")


def _parts(config: Config, spec: Spec) -> tuple[Backbone, str, Depths]:
    """The backbone, the feature that its head reads, and the depth of every parameter."""
    network = backbone(config.backbone, spec.shape, config.dataset)
    feature = config.features or network.last
    strategies.require_stage("features", feature, network.features(spec.shape))
    depths = strategies.depths_of(
        network, spec.shape, feature, config.strategy, config.unfreeze_from
    )
    return network, feature, depths


def _distorts(config: Config) -> bool:
    return config.distortions and config.backbone in LENETS


def _crops(config: Config) -> bool:
    files = config.dataset.startswith("folder:") and config.backbone not in LENETS
    return config.distortions and files


def _varies(config: Config) -> bool:
    """Whether training sees an image in more than one way."""
    return _distorts(config) or _crops(config)


EXPERIMENT = Experiment(
    summary="transfer learning: scratch, linear, finetune, gradual, partial; little data",
    config=Config,
    plan=plan,
    task=task,
    sweeps=SWEEPS,
    divide=rows,
    initial=initial,
    remarks=remarks,
    report=report,
)
