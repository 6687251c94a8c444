"""How long to train, on what batches, and what to keep."""

import dataclasses
from typing import Literal


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
        regroup: compose the batches anew in every epoch, instead of only taking those of the first
            in another order.
    """

    epochs: int
    batch_size: int
    seed: int = 0
    patience: int | None = None
    select: Literal["best", "last"] = "best"
    ties: Literal["loss", "latest"] = "loss"
    regroup: bool = True
