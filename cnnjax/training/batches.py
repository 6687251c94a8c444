"""The batches of every epoch, and of what size their programs are."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.data.order import bucketed_rows, epoch_rows
from cnnjax.runtime.compilation import jit
from cnnjax.training.devices import Devices
from cnnjax.training.plan import Plan
from cnnjax.training.sparse import lookup
from cnnjax.training.sparse.buckets import Bucket, buckets_of, length_buckets
from cnnjax.training.step import stream
from cnnjax.training.task import Task


class Batches:
    """Which examples each batch of an epoch has: a function of the plan's seed and the epoch.

    Where a task looks rows up and steps are single calls, the examples of a batch are of the same
    class of lengths, and it has the first of a few sizes that fits it: a batch of short sentences
    is little work.  In one program of many steps all have the same shape, so there the batches are
    any examples in whole length.

    Args:
        task: what is learned.
        inputs: stored inputs of the training split [N, ...].
        plan: batch size, seed, and whether batches are composed anew.
        devices: where.
    """

    def __init__(self, task: Task, inputs: np.ndarray, plan: Plan, devices: Devices):
        self._seed, self._regroup = np.uint32(plan.seed), plan.regroup
        self._count = len(inputs)
        batch_size = min(plan.batch_size, self._count)
        self._shape = {"batch_size": batch_size, "width": devices.width(batch_size)}
        self._bucket_of_example = np.zeros(self._count, np.int32)
        self._sizes: tuple[Bucket, ...] = ()
        if task.lookup and not devices.one_program:
            self._inputs, self._needed = inputs, lookup.columns(task.lookup, inputs)
            self._sizes = length_buckets(inputs, self._needed, batch_size)
            lengths = [size.columns for size in self._sizes]
            self._bucket_of_example = np.searchsorted(lengths, self._needed).astype(np.int32)

    def batches(self, epoch: int) -> tuple[jax.Array, jax.Array, Sequence[Bucket | None]]:
        """Rows int32[S, W] and weights float32[S, W] of ``epoch``, and the size of every batch."""
        any_rows, alike = _programs()
        at = self._seed, np.int32(epoch)
        if self._regroup and not self._sizes:
            rows, weights = any_rows(*at, count=self._count, **self._shape)
        else:
            rows, weights = alike(
                *at, self._bucket_of_example, regroup=self._regroup, **self._shape
            )
        if not self._sizes:
            return rows, weights, [None] * len(rows)
        batches = zip(np.asarray(rows), np.asarray(weights), strict=True)
        sizes = buckets_of(self._inputs, self._needed, batches, self._sizes)
        return rows, weights, sizes


@functools.cache
def _programs() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """With their keys: alone, the few operations of a key would be as many programs."""
    shape = ("batch_size", "width")
    return (
        jit(_any_rows, seldom=True, static_argnames=("count", *shape)),
        jit(_alike_rows, seldom=True, static_argnames=("regroup", *shape)),
    )


def _any_rows(seed: jax.Array, epoch: jax.Array, **sizes: int) -> tuple[jax.Array, jax.Array]:
    return epoch_rows(stream(seed, "order"), epoch, **sizes)


def _alike_rows(
    seed: jax.Array, epoch: jax.Array, buckets: jax.Array, **settings: int
) -> tuple[jax.Array, jax.Array]:
    return bucketed_rows(stream(seed, "order"), epoch, buckets, **settings)
