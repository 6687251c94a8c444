"""The batches of every epoch, and the bucket that each one's program is compiled for."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.data.order import bucketed_rows, epoch_rows
from cnnjax.errors import UserError
from cnnjax.runtime.compilation import jit
from cnnjax.training.devices import Devices
from cnnjax.training.plan import Plan
from cnnjax.training.sparse import lookup
from cnnjax.training.sparse.buckets import Bucket, buckets_of, length_buckets
from cnnjax.training.step import stream
from cnnjax.training.task import Task


class Batches:
    """Which examples each batch of an epoch has: a function of plan, data and epoch alone.

    It is the same on every platform and in every way to run the steps.  Where a task looks rows
    up, a batch also has the first of a few buckets that fits it, whose program is compiled for
    inputs so long: a batch of short sentences is little work.

    Args:
        task: the model with its loss and its optimiser.
        inputs: stored inputs of the training split [N, ...].
        plan: batch size, seed, and how batches are composed.
        devices: those that compute, and the way in which they share a batch.

    Attributes:
        steps: S, batches in an epoch.

    Raises:
        UserError: batches by length of inputs that have none.
    """

    def __init__(self, task: Task, inputs: Any, plan: Plan, devices: Devices):
        self._seed, self._regroup = np.uint32(plan.seed), plan.regroup
        self._count = len(inputs)
        batch_size = min(plan.batch_size, self._count)
        self.steps = -(-self._count // batch_size)
        self._shape = {"batch_size": batch_size, "width": devices.width(batch_size)}
        self._of_example = length_classes(task, inputs, plan)
        self._buckets: tuple[Bucket, ...] = ()
        if task.lookup:
            self._inputs, self._needed = inputs, lookup.columns(task.lookup, inputs)
            self._buckets = length_buckets(inputs, self._needed, batch_size)

    def epoch(self, epoch: int) -> tuple[jax.Array, jax.Array, Sequence[Bucket | None]]:
        """Rows int32[S, W] and weights float32[S, W] of ``epoch``, and every batch's bucket."""
        any_rows, bucketed = _programs()
        at = self._seed, np.int32(epoch)
        if self._of_example is None:
            rows, weights = any_rows(*at, count=self._count, **self._shape)
        else:
            rows, weights = bucketed(*at, self._of_example, regroup=self._regroup, **self._shape)
        if not self._buckets:
            return rows, weights, [None] * self.steps
        batches = zip(np.asarray(rows), np.asarray(weights), strict=True)
        return rows, weights, buckets_of(self._inputs, self._needed, batches, self._buckets)


def length_classes(task: Task, inputs: Any, plan: Plan) -> np.ndarray | None:
    """The class of examples that each of ``inputs`` [N, ...] shares batches with.

    Returns:
        int32[N]; None where every batch is of any examples, drawn anew in every epoch.

    Raises:
        UserError: batches by length of inputs that have none.
    """
    if plan.batches == "any":
        return None if plan.regroup else np.zeros(len(inputs), np.int32)
    if not task.lookup:
        raise UserError(
            "plan.batches is 'by_length', but the task looks nothing up (task.lookup is None), so "
            "its inputs have no lengths; take batches='any'"
        )
    needed = lookup.columns(task.lookup, inputs)
    buckets = length_buckets(inputs, needed, min(plan.batch_size, len(inputs)))
    return np.searchsorted([bucket.columns for bucket in buckets], needed).astype(np.int32)


@functools.cache
def _programs() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """With their keys: alone, the few operations of a key would be as many programs."""
    shape = ("batch_size", "width")
    return (
        jit(_any_rows, seldom=True, static_argnames=("count", *shape)),
        jit(_bucketed_rows, seldom=True, static_argnames=("regroup", *shape)),
    )


def _any_rows(seed: jax.Array, epoch: jax.Array, **sizes: int) -> tuple[jax.Array, jax.Array]:
    return epoch_rows(stream(seed, "order"), epoch, **sizes)


def _bucketed_rows(
    seed: jax.Array, epoch: jax.Array, buckets: jax.Array, **settings: Any
) -> tuple[jax.Array, jax.Array]:
    return bucketed_rows(stream(seed, "order"), epoch, buckets, **settings)
