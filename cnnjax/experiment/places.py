"""Where a run reads and writes, and on what it computes: nothing that a configuration says."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Places:
    """The folders of a run or a sweep.

    Attributes:
        workdir: its own, where everything is written.
        data_dir: of prepared data sets, and of what is kept of them.
        manual_dir: of files that the user has; both as in :func:`cnnjax.data.load`.
    """

    workdir: Path
    data_dir: Path | None = None
    manual_dir: Path | None = None


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a run is carried out.

    Attributes:
        parallel: the way to use several devices, as in :class:`cnnjax.training.Devices`.
        checkpoint_seconds: time between checkpoints.
    """

    parallel: str = "auto"
    checkpoint_seconds: float = 30.0
