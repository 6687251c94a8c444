"""Exact evaluation: every example once, for any batch size and any number of devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.training import lookup
from cnnjax.training.devices import Devices
from cnnjax.training.task import Hparams, Task

_BATCH = 512
_COLUMN_STEP, _ROW_STEP = 16, 1024  # sizes are rounded up to multiples: few programs


def predict(task: Task, devices: Devices) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Compile ``(params, inputs [N, ...]) -> logits float32[N, K]``."""
    if task.lookup and not devices.one_program:
        return _predict_by_length(task, devices)
    run = devices.apply(task.logits)
    return lambda params, inputs: run(params, inputs, _BATCH)


def _predict_by_length(task: Task, devices: Devices) -> Callable[[Any, np.ndarray], np.ndarray]:
    """The same, short inputs before long ones, and with only the rows that a batch looks up."""

    def logits(rows: int, params: Any, inputs: jax.Array) -> jax.Array:
        return task.logits(*lookup.cut_out(task.lookup, params, inputs, rows))

    program = functools.cache(lambda rows: devices.apply(functools.partial(logits, rows)))

    def run(params: Any, inputs: np.ndarray) -> np.ndarray:
        needed = lookup.columns(task.lookup, inputs)
        order = np.argsort(needed, kind="stable")
        width, found = min(_BATCH, len(inputs)), []
        for first in range(0, len(order), width):
            rows = order[first : first + width]
            columns = min(-(-needed[rows[-1]] // _COLUMN_STEP) * _COLUMN_STEP, inputs.shape[1])
            batch = np.zeros((width, columns), inputs.dtype)
            batch[: len(rows)] = inputs[rows, :columns]
            different = -(-(len(np.unique(batch)) + 1) // _ROW_STEP) * _ROW_STEP
            found.append(program(different)(params, batch, width)[: len(rows)])
        return np.concatenate(found)[np.argsort(order)]

    return run


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
