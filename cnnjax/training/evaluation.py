"""Exact evaluation: every example once, for any batch size and any number of devices."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnjax.training.devices import Devices
from cnnjax.training.task import Hparams, Task

_BATCH = 512


def predict(task: Task, devices: Devices) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Compile ``(params, inputs [N, ...]) -> logits float32[N, K]``."""
    run = devices.apply(task.logits)
    return lambda params, inputs: run(params, inputs, _BATCH)


def measure(
    task: Task, logits: np.ndarray, labels: np.ndarray, hparams: Hparams
) -> dict[str, float | int]:
    """Mean loss and accuracy over all examples, summed in float64.

    Args:
        task: gives the loss.
        logits: float32[N, K].
        labels: int32[N].
        hparams: of the loss.

    Returns:
        "accuracy" (share of examples whose largest logit is the label's), "loss", "count".
    """
    losses = np.asarray(task.loss(logits, labels, hparams), np.float64)
    correct = int((np.argmax(logits, -1) == labels).sum())
    return {
        "accuracy": correct / len(labels),
        "loss": float(losses.sum() / len(labels)),
        "count": len(labels),
    }


def accuracy_and_loss(totals: Mapping[str, float]) -> dict[str, float]:
    """Means from sums: the one division, at the end."""
    count = max(float(totals["count"]), 1.0)
    return {
        "accuracy": float(totals["correct"]) / count,
        "loss": float(totals["loss"]) / count,
    }
