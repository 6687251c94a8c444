"""The batches of every epoch, and of what size their programs are."""

from collections.abc import Sequence

import jax
import numpy as np

from cnnjax.data.order import alike_rows, epoch_rows
from cnnjax.training import lookup
from cnnjax.training.devices import Devices
from cnnjax.training.lookup import Size
from cnnjax.training.plan import Plan
from cnnjax.training.step import stream
from cnnjax.training.task import Task

# Rows of a table are rounded up to a multiple: more rows are more work, fewer more programs.
_ROW_STEP = 64


class Order:
    """Which examples each batch of an epoch has: a function of the plan's seed and the epoch.

    Where a task looks rows up and steps are single calls, batches are of examples of similar
    length, and every batch has the size that it needs: a short one is little work.  In one program
    of many steps all have the same shape, so there the batches are any examples in whole length.

    Args:
        task: what is learned.
        inputs: stored inputs of the training split [N, ...].
        plan: batch size, seed, and whether batches are composed anew.
        devices: where.
    """

    def __init__(self, task: Task, inputs: np.ndarray, plan: Plan, devices: Devices):
        self._key = stream(plan.seed, "order")
        self._count, self._regroup = len(inputs), plan.regroup
        self._batch_size = min(plan.batch_size, len(inputs))
        self._width = devices.width(self._batch_size)
        self._inputs = inputs
        self._sized = task.lookup is not None and not devices.one_program
        self._kinds = (
            lookup.columns(task.lookup, inputs) if self._sized else np.zeros(len(inputs), int)
        ).astype(np.int32)

    def batches(self, epoch: int) -> tuple[jax.Array, jax.Array, Sequence[Size | None]]:
        """Rows int32[S, W] and weights float32[S, W] of ``epoch``, and the size of every batch."""
        shape = {"batch_size": self._batch_size, "width": self._width}
        if not self._sized and self._regroup:
            rows, weights = epoch_rows(self._key, epoch, count=self._count, **shape)
            return rows, weights, [None] * len(rows)
        rows, weights = alike_rows(
            self._key, epoch, self._kinds, **shape, regroup=self._regroup
        )
        if not self._sized:
            return rows, weights, [None] * len(rows)
        sizes = lookup.sizes(self._inputs, self._kinds, np.asarray(rows), _ROW_STEP)
        return rows, weights, sizes
