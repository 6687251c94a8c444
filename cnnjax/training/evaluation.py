"""Exact evaluation: every example once, for any batch size and any number of devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.data.dataset import Split
from cnnjax.training.calling import Variables
from cnnjax.training.devices import Devices
from cnnjax.training.sparse import lookup
from cnnjax.training.task import Hparams, Task

Means = dict[str, float | int]

_BATCH, _SMALLEST_BATCH = 512, 64
_BATCH_ELEMENTS = 1 << 21  # of inputs: large images, whose activations are larger, in small batches
_COLUMN_STEP, _ROW_STEP = 16, 1024  # sizes are rounded up to multiples: few programs


def largest_batch(inputs: Any) -> int:
    """Of how many of ``inputs`` [N, ...] the logits are computed at a time.

    A power of two up to 512: 8 of 224 x 224 x 3.
    """
    elements = int(np.prod(inputs.shape[1:]))
    return 1 << int(np.log2(np.clip(_BATCH_ELEMENTS / elements, 1, _BATCH)))


def predict(task: Task, devices: Devices) -> Callable[[Variables, Any], np.ndarray]:
    """Compile ``(variables, inputs [N, ...]) -> logits float32[N, K]``."""
    if task.lookup and not devices.one_program:
        return _predict_by_length(task, devices)
    run = devices.apply(task.logits)
    return lambda variables, inputs: run(variables, inputs, min(largest_batch(inputs), len(inputs)))


def evaluator(
    task: Task, devices: Devices
) -> Callable[[Variables, Hparams, Mapping[str, Split]], dict[str, tuple[np.ndarray, Means]]]:
    """Compile ``(variables, hparams, splits) -> {split: (logits float32[N, K], means)}``.

    ``splits`` maps names to "inputs" [N, ...] and "labels" int32[N]; the means are those of
    :func:`measure`.  All splits go through one program: its batch is as large as the smallest of
    them, but 64 to 512; of large images fewer.
    """

    if task.lookup and not devices.one_program:
        return _evaluator_by_length(task, devices)

    def outcome(
        given: tuple[Variables, Hparams], examples: dict[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        variables, hparams = given
        logits = task.logits(variables, examples["inputs"])
        return logits, task.loss(logits, examples["labels"], hparams)

    run = devices.apply(outcome)

    def evaluate(
        variables: Variables, hparams: Hparams, splits: Mapping[str, Split]
    ) -> dict[str, tuple[np.ndarray, Means]]:
        smallest = min(len(examples["labels"]) for examples in splits.values())
        batch_size = min(max(smallest, _SMALLEST_BATCH), _BATCH)
        given = devices.replicate((variables, jax.tree.map(np.float32, hparams)))
        found = {}
        for split, examples in splits.items():
            rows = {name: examples[name] for name in ("inputs", "labels")}
            most = min(batch_size, largest_batch(examples["inputs"]))
            logits, losses = run(given, rows, most)
            found[split] = logits, _means(logits, losses, examples["labels"])
        return found

    return evaluate


def _predict_by_length(task: Task, devices: Devices) -> Callable[[Variables, Any], np.ndarray]:
    """The same, short inputs before long ones, and with only the rows that a batch looks up."""

    tables = task.lookup
    assert tables is not None

    def logits(rows: int, variables: Variables, inputs: jax.Array) -> jax.Array:
        params, ids = lookup.cut_out(tables, variables["params"], inputs, rows)
        return task.logits({**variables, "params": params}, ids)

    program = functools.cache(lambda rows: devices.apply(functools.partial(logits, rows)))

    def run(variables: Variables, inputs: np.ndarray) -> np.ndarray:
        needed = lookup.columns(tables, inputs)
        order = np.argsort(needed, kind="stable")
        width, found = min(_BATCH, len(inputs)), []
        for first in range(0, len(order), width):
            rows = order[first : first + width]
            columns = min(-(-needed[rows[-1]] // _COLUMN_STEP) * _COLUMN_STEP, inputs.shape[1])
            batch = np.zeros((width, columns), inputs.dtype)
            batch[: len(rows)] = inputs[rows, :columns]
            different = -(-(len(np.unique(batch)) + 1) // _ROW_STEP) * _ROW_STEP
            found.append(program(different)(variables, batch, width)[: len(rows)])
        return np.concatenate(found)[np.argsort(order)]

    return run


def _evaluator_by_length(task: Task, devices: Devices) -> Callable[..., Any]:
    """The same, by :func:`_predict_by_length`."""
    logits_of = _predict_by_length(task, devices)

    def evaluate(
        variables: Variables, hparams: Hparams, splits: Mapping[str, Split]
    ) -> dict[str, tuple[np.ndarray, Means]]:
        logits = {split: logits_of(variables, rows["inputs"]) for split, rows in splits.items()}
        return {
            split: (found, measure(task, found, splits[split]["labels"], hparams))
            for split, found in logits.items()
        }

    return evaluate


def measure(task: Task, logits: np.ndarray, labels: np.ndarray, hparams: Hparams) -> Means:
    """Mean loss and accuracy over all examples, summed in float64.

    Args:
        task: gives the loss.
        logits: float32[N, K].
        labels: int32[N].
        hparams: of the loss.

    Returns:
        "accuracy" (share of examples whose largest logit is the label's), "loss", "count".
    """
    return _means(logits, np.asarray(task.loss(logits, labels, hparams)), labels)


def _means(logits: np.ndarray, losses: np.ndarray, labels: np.ndarray) -> Means:
    count = len(labels)
    return {
        "accuracy": int((np.argmax(logits, -1) == labels).sum()) / count,
        "loss": float(np.sum(losses, dtype=np.float64) / count),
        "count": count,
    }


def accuracy_and_loss(totals: Mapping[str, float]) -> dict[str, float]:
    """Means from sums: the one division, at the end."""
    count = max(float(totals["count"]), 1.0)
    return {
        "accuracy": float(totals["correct"]) / count,
        "loss": float(totals["loss"]) / count,
    }
