"""What watches a training and may end it, and how a training ends before its time."""

from collections.abc import Mapping
from typing import Any

from cnnjax.errors import UserError
from cnnjax.training.checkpoints import Checkpoints


class Observer:
    """What wants to know how training goes, or to end it; by default nothing does.

    Of several processes, each has its own; where one asks to stop, all do.
    """

    def start(self, step: int | None) -> None:
        """Before the first step; ``step`` is where a saved run goes on, None for a new one."""

    def progress(self, epoch: int, step: int, steps: int, means: Mapping[str, float]) -> None:
        """About twice a second: ``step`` of the ``steps`` of ``epoch`` (0, 1, ...) are done."""

    def epoch_end(self, row: Mapping[str, Any]) -> None:
        """After every epoch, with its row of metrics."""

    def should_stop(self) -> bool:
        """Whether to save and end now."""
        return False


class Interrupted(Exception):
    """Training was asked to stop; ``step`` is where its state was saved, if it was."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


class Diverged(UserError):
    """The loss or the parameters became infinite or not a number."""


def diverged(what: str, hparams: Any, checkpoints: Checkpoints | None = None) -> Diverged:
    """The error that says ``what`` was found, what is saved, and what may help."""
    saved = checkpoints.latest() if checkpoints else None
    kept = "nothing was saved"
    if checkpoints and saved is not None:
        kept = f"the last good checkpoint is step {saved} in {checkpoints.directory}"
    rate = getattr(hparams, "learning_rate", None)
    advice = "check the inputs, or take a lower rate"
    if rate is not None:
        advice = f"try a lower hparams.learning_rate (now {rate}) or check the inputs"
    return Diverged(f"{what}; {kept}; {advice}")
