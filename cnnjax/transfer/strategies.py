"""What of a network a strategy trains, how fast, and from when on."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from cnnjax.errors import UserError
from cnnjax.training import schedules
from cnnjax.training.step import draw
from cnnjax.training.task import Task
from cnnjax.transfer.backbones import Backbone
from cnnjax.transfer.freezing import FROZEN, Depths, by_depth, described

Strategy = Literal["scratch", "linear", "partial", "gradual", "finetune"]
"""All from random weights; the head; the upper stages; stage after stage from the top; all."""

STRATEGIES: tuple[Strategy, ...] = ("scratch", "linear", "partial", "gradual", "finetune")

_HEAD = ("head/kernel", "head/bias")


def depths_of(
    network: Backbone,
    images: Sequence[int],
    feature: str,
    strategy: Strategy,
    lowest: str | None = None,
) -> dict[str, int | None]:
    """How far below the head each parameter lies, or that it is frozen.

    Args:
        network: with the stages.
        images: shape (h, w, c) of a stored image.
        feature: that the head reads.
        strategy: what is trained.
        lowest: the lowest stage that "partial" trains; by default the highest there is.

    Raises:
        UserError: a stage that the network has not.
    """
    stages = network.stages(images, feature)
    lowest = lowest or list(stages)[-1]
    require_stage("unfreeze_from", lowest, stages)
    depths: dict[str, int | None] = dict.fromkeys(_HEAD, 0)
    trained = strategy != "linear"
    for depth, (stage, paths) in enumerate(reversed(stages.items()), start=1):
        depths |= dict.fromkeys(paths, depth if trained else FROZEN)
        if strategy == "partial" and stage == lowest:
            trained = False
    return depths


def require_stage(field: str, stage: str, valid: Iterable[str]) -> None:
    """Raise UserError, naming the setting ``field``, if ``stage`` is not among ``valid``."""
    valid = list(valid)
    if stage not in valid:
        raise UserError(
            f"config.{field}={stage}: the network has no such stage; it has {', '.join(valid)}"
        )


def optimizer(
    depths: Depths, strategy: Strategy, epochs: int, steps: int, hparams: Any
) -> optax.GradientTransformation:
    """AdamW with a cosine, by depth.

    Args:
        depths: of every parameter.
        strategy: what is trained.
        epochs: of training.
        steps: of an epoch.
        hparams: with "learning_rate", "weight_decay", "decay" and "pace"; traced.
    """
    direction = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(hparams.weight_decay))
    starts = None
    if strategy == "gradual":
        starts = [steps * epoch for epoch in start_epochs(depths, epochs, hparams.pace)]
    decay = 1.0 if strategy == "scratch" else hparams.decay
    rate = schedules.cosine(hparams.learning_rate, epochs * steps)
    return optax.chain(
        by_depth(direction, depths, decay=decay, starts=starts), optax.scale_by_learning_rate(rate)
    )


def start_epochs(depths: Depths, epochs: int, pace: jax.Array | float) -> list[jax.Array]:
    """For each depth the epoch (0, 1, ...) from which on it is trained: evenly up to ``pace``.

    Source: Howard and Ruder 2018, section 3.3, where a stage joins after every epoch.
    """
    deepest = max(depth for depth in depths.values() if depth is not None)  # FROZEN
    return [jnp.round(pace * epochs * depth / max(deepest, 1)) for depth in range(deepest + 1)]


def description(
    network: Backbone, images: Sequence[int], feature: str, depths: Depths, task: Task
) -> str:
    """What is trained and what is frozen, in one line: stages, and the number of parameters."""
    inputs = jax.ShapeDtypeStruct((1, *images), jnp.uint8)
    drawn = jax.eval_shape(functools.partial(draw, task), jax.random.key(0), inputs)
    stages: Mapping[str, Sequence[str]] = {
        "head": _HEAD,
        **dict(reversed(network.stages(images, feature).items())),
    }
    return described(stages, depths, drawn["params"])
