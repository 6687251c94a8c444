"""The compiled functions of one task."""

import functools
from collections.abc import Mapping
from typing import Any

import jax

from cnnjax.runtime.compilation import jit
from cnnjax.training.checks import outputs_of
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import evaluator
from cnnjax.training.progress import all_finite, init_progress, keep_best, step_on_rows
from cnnjax.training.sparse.buckets import Bucket
from cnnjax.training.step import Metrics, TrainState, calibrate
from cnnjax.training.task import Hparams, Task

_FEW_PARAMETERS = 100_000  # with more, a step is long beside what lies between two calls


class Programs:
    """The compiled functions of one task, which trainings one after another share.

    Args:
        task: the model with its loss and its optimiser.
        devices: those that compute, and the way in which they share a batch.
    """

    def __init__(self, task: Task, devices: Devices):
        self.devices, self._task = devices, task
        self._classes: dict[Any, int] = {}
        self.start = jit(functools.partial(init_progress, task), seldom=True)
        self.calibrate = jit(functools.partial(calibrate, task)) if task.calibrate else None
        self._advance = functools.cache(
            lambda bucket, grouped: devices.program(
                functools.partial(step_on_rows, task, bucket=bucket), grouped=grouped
            )
        )
        self.all_finite = jit(all_finite, seldom=True)
        self.evaluate = evaluator(task, devices)
        self.update_best = jit(keep_best, seldom=True, static_argnames="ties")

    def classes(self, inputs: Any, hparams: Hparams) -> int:
        """The number of the model's outputs, given stored inputs like these.

        Raises:
            UserError: as :func:`cnnjax.training.checks.outputs_of`.
        """
        known = inputs.shape[1:], inputs.dtype, jax.tree.structure(hparams)
        if known not in self._classes:
            self._classes[known] = outputs_of(self._task, inputs, hparams)
        return self._classes[known]

    def advance(
        self,
        carry: tuple[TrainState, Metrics],
        data: Mapping[str, jax.Array],
        rows: jax.Array,
        weights: jax.Array,
        hparams: Hparams,
        steps: int,
        bucket: Bucket | None = None,
    ) -> tuple[TrainState, Metrics]:
        """``steps`` times :func:`step_on_rows`; ``carry`` is donated."""
        grouped = bucket is None and _is_small(carry[0].params)
        return self._advance(bucket, grouped)(carry, data, rows, weights, hparams, steps)


def _is_small(params: Any) -> bool:
    return sum(leaf.size for leaf in jax.tree.leaves(params)) <= _FEW_PARAMETERS
