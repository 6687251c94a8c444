"""Trials that share a program: trained in chunks by it, or one after another."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from cnnjax.errors import reason
from cnnjax.experiment.trial import Outcome, Trainer, train_trial
from cnnjax.training import Diverged
from cnnjax.training.feed import is_streamed
from cnnjax.training.trials import TrialPrograms, fit_trials, how_many_fit


@dataclasses.dataclass(frozen=True)
class Together:
    """Whether trials are trained in one program, and how many.

    Attributes:
        wanted: in one program instead of one after another by the same programs; by default on
            accelerators, which a small network leaves idle.  On CPU the working set of many leaves
            the cache, and kernels of their own make a convolution a slow, grouped one.  Never where
            inputs are streamed (:mod:`cnnjax.training.feed`).
        at_once: how many trials one program trains; by default as many as fit into memory.
    """

    wanted: bool | None = None
    at_once: int | None = None


def outcomes(
    trainer: Trainer, configs: Sequence[Any], together: Together | None = None
) -> Iterator[Outcome]:
    """The outcome of each configuration, in order and as soon as there is one.

    An error in the middle ends the trials that it met; the others go on.
    """
    together = together or Together()
    wanted = together.wanted
    if wanted is None:
        wanted = trainer.devices.platform != "cpu"
    if wanted and configs and not is_streamed(trainer.task, trainer.data()["inputs"]):
        return _Chunks(trainer, configs, together.at_once).outcomes(configs)
    return (_alone(trainer, config) for config in configs)


def _alone(trainer: Trainer, config: Any) -> Outcome:
    try:
        return train_trial(trainer, config).outcome
    except Diverged as error:
        return Outcome("diverged", str(error))
    except Exception as error:  # one trial's; the others go on
        return Outcome("failed", reason(error))


class _Chunks:
    """Chunks of trials, each trained by one program that all chunks share."""

    def __init__(self, trainer: Trainer, configs: Sequence[Any], at_once: int | None):
        self._trainer, self._programs = trainer, None
        self._data = trainer.data()
        most = at_once
        if most is None:
            hparams, inputs = configs[0].hparams, self._data["inputs"]
            fitting = how_many_fit(trainer.task, inputs, hparams, trainer.plan)
            most = fitting * len(trainer.devices.devices)
        chunks = -(-len(configs) // most)
        self._size = -(-len(configs) // chunks)  # all about equally large: one program serves them

    def outcomes(self, configs: Sequence[Any]) -> Iterator[Outcome]:
        # A program's trials have equally many training rows.
        for _, alike in itertools.groupby(configs, lambda c: len(self._trainer.rows(c)["train"])):
            alike = list(alike)
            for first in range(0, len(alike), self._size):
                yield from self._chunk(alike[first : first + self._size])

    def _chunk(self, configs: Sequence[Any]) -> Iterator[Outcome]:
        try:
            yield from self._fitted(configs)
        except Exception as error:
            if "RESOURCE_EXHAUSTED" in str(error) and len(configs) > 1:
                self._programs = None  # they are as large as before
                half = len(configs) // 2
                yield from self._chunk(configs[:half])
                yield from self._chunk(configs[half:])
                return
            yield from [Outcome("failed", reason(error))] * len(configs)

    def _fitted(self, configs: Sequence[Any]) -> list[Outcome]:
        trainer = self._trainer
        if self._programs is None or self._programs.trials < len(configs):
            devices = trainer.devices
            self._programs = TrialPrograms(trainer.task, trainer.plan, devices, len(configs))
        found = fit_trials(
            trainer.task,
            self._data,
            [trainer.rows(config) for config in configs],
            [config.hparams for config in configs],
            [config.seed for config in configs],
            trainer.plan,
            programs=self._programs,
        )
        return [
            Outcome("diverged", str(fitted))
            if isinstance(fitted, Diverged)
            else trainer.measure(config, fitted).outcome
            for config, fitted in zip(configs, found, strict=True)
        ]
