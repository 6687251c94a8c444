"""How long to train, on what batches, and what to keep."""

import dataclasses
from typing import Literal

from cnnjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to train, and which parameters to keep.

    Attributes:
        epochs: passes over the training split.
        batch_size: examples in an update; the last of an epoch has what is left.
        seed: of initial weights, order and dropout.
        patience: epochs without a better validation result after which to stop early; where the
            latest wins ties, an equal one counts as better.
        select: the parameters after the "best" epoch on validation, or the "last".
        ties: of epochs with equal validation accuracy the best is the one with the lowest "loss",
            or the "latest".
        batches: of "any" examples, or "by_length": of examples of similar length, where a task
            looks rows up (:class:`cnnjax.training.Lookup`), so that less padding is computed.
        regroup: compose the batches anew in every epoch, instead of only taking those of the first
            in another order.
    """

    epochs: int
    batch_size: int
    seed: int = 0
    patience: int | None = None
    select: Literal["best", "last"] = "best"
    ties: Literal["loss", "latest"] = "loss"
    batches: Literal["any", "by_length"] = "any"
    regroup: bool = True

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"plan.{name} is {getattr(self, name)}; it must be at least 1")
