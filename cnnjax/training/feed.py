"""Where a step's examples come from: all are on the devices, or batches get there in time.

Inputs are arrays, or stand for arrays: they have ``shape``, ``dtype`` and ``nbytes``,
``inputs[rows]`` selects some, and ``np.asarray`` makes an array of these, which may take long.
Where they are much, or are another view in every epoch, the batches to come are made in a thread
while the devices work on the one before: the training is the same, and no more than a few of them
are ever in memory.
"""

import collections
import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.data.images import KEPT_BYTES
from cnnjax.training.devices import Devices
from cnnjax.training.plan import Plan
from cnnjax.training.task import Task

_AHEAD = 2  # batches that are ready before they are needed, at most

Examples = Callable[[int], Iterator[tuple[Any, Any, Any, int]]]
"""``steps -> (data, rows [S, W], weights [S, W], steps) ...``: what the next steps are called with,
by a program of :meth:`cnnjax.training.Devices.program`."""


def is_streamed(task: Task, inputs: Any) -> bool:
    """Whether ``inputs`` are brought to the devices batch by batch."""
    is_array = isinstance(inputs, np.ndarray | jax.Array)
    return bool(task.views) or (not is_array and inputs.nbytes > KEPT_BYTES)


class Feed:
    """The training split, as the loop takes it.

    Args:
        task: what is learned; what its ``views`` make of the inputs is what is trained on.
        split: "inputs" [N, ...] and "labels" int32[N].
        plan: gives the seed.
        devices: those that compute, and the way in which they share a batch.
    """

    def __init__(self, task: Task, split: Mapping[str, Any], plan: Plan, devices: Devices):
        self._inputs, self._labels = split["inputs"], split["labels"]
        self._views, self._seed, self._devices = task.views, plan.seed, devices
        self.streams = is_streamed(task, self._inputs)
        self._whole = None if self.streams else self._bring(self._inputs, self._labels)

    def sample(self, count: int, step: int) -> Mapping[str, jax.Array]:
        """Examples on the devices: all, or where they are streamed ``count`` at random."""
        if self._whole is not None:
            return self._whole
        size = min(count, len(self._labels))
        random = np.random.RandomState([self._seed, step])
        rows = random.choice(len(self._labels), size, replace=False)
        return self._bring(self._inputs[rows], self._labels[rows])

    @contextlib.contextmanager
    def epoch(self, epoch: int, rows: Any, weights: Any, first: int) -> Iterator[Examples]:
        """The examples of an epoch's steps from ``first``, by its rows and weights [S, W].

        To be used up in order; a streamed step should be over before the next one's are asked for.
        """
        if self._whole is not None:
            rows, weights = self._devices.divide((rows, weights))
            yield lambda steps: iter([(self._whole, rows, weights, steps)])
            return
        inputs = self._inputs
        if self._views:
            inputs = self._views(inputs, self._seed, epoch)
        rows, weights = np.asarray(rows), np.asarray(weights)
        with concurrent.futures.ThreadPoolExecutor(1, "feed") as thread:
            coming = self._coming(thread, inputs, rows, weights, first)
            try:
                yield lambda steps: (next(coming) for _ in range(steps))
            finally:
                thread.shutdown(wait=False, cancel_futures=True)

    def _coming(
        self,
        thread: concurrent.futures.Executor,
        inputs: Any,
        rows: np.ndarray,
        weights: np.ndarray,
        first: int,
    ) -> Iterator[tuple[Any, Any, Any, int]]:
        """Step by step, its batch as all the data there is, and all rows of that."""
        every = self._devices.divide(np.arange(rows.shape[1], dtype=np.int32)[None])
        make = lambda chosen: self._bring(inputs[chosen], self._labels[chosen])
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        left = iter(rows[first:])
        for step in range(first, len(rows)):
            while len(waiting) <= _AHEAD and (chosen := next(left, None)) is not None:
                waiting.append(thread.submit(make, chosen))
            batch = waiting.popleft().result()
            yield batch, every, self._devices.divide(weights[step : step + 1]), 1

    def _bring(self, inputs: Any, labels: np.ndarray) -> Mapping[str, jax.Array]:
        if not isinstance(inputs, jax.Array):
            inputs = np.asarray(inputs)
        return self._devices.replicate({"inputs": inputs, "labels": labels})
