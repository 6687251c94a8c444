"""What watches a training run: the console, metrics.jsonl, TensorBoard and the user's signals."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tqdm import tqdm

from cnnjax.experiment.run_directory import METRICS, RunDirectory
from cnnjax.runtime import processes
from cnnjax.training import Observer

_SECONDS_BETWEEN_LINES = 5.0  # where the output is no terminal


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Inside, an import of ``name`` finds nothing, unless it has been imported before.

    tensorboardX imports PyTorch wherever it is installed, which takes longer than all that we
    import; it needs it for tensors only.
    """
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


class Signals:
    """Turns SIGTERM and Ctrl-C into a request to stop; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def __enter__(self) -> "Signals":
        self._before = {
            number: signal.signal(number, self._receive)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class RunObserver(Observer):
    """Writes every epoch's row and shows progress: of several processes, the leader only.

    Args:
        run: where rows and TensorBoard events go.
        epochs: in all.
        examples: in an epoch.
        signals: asked whether to stop.
        say: receives lines for the user.

    As a context it closes its bar and its events at the end.
    """

    def __init__(
        self,
        run: RunDirectory,
        epochs: int,
        examples: int,
        signals: Signals,
        say: Callable[[str], None],
    ):
        self._run, self._epochs, self._examples, self._signals = run, epochs, examples, signals
        self._say = say
        self._bar: tqdm | None = None
        self._events: Any = None
        self._line_at = 0.0

    def __enter__(self) -> "RunObserver":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            self._events.close()

    def start(self, step: int | None) -> None:
        processes.from_leader(lambda: self._start(step))

    def _start(self, step: int | None) -> None:
        with _hidden("torch"):
            from tensorboardX import SummaryWriter

        if step is not None:
            self._say(f"resuming at step {step:,}")
        rows = self._run.keep_rows(step or 0)
        # Events of the part that is kept are written anew: a kill may have cut them anywhere.
        for path in self._run.path.glob("events.out.*"):
            path.unlink()
        self._events = SummaryWriter(str(self._run.path))
        for row in rows:
            self._write_events(row)
        self._bar = tqdm(
            total=self._epochs * self._examples,
            initial=len(rows) * self._examples,
            unit=" examples",
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=False,
        )

    def progress(self, epoch: int, step: int, steps: int, means: Mapping[str, float]) -> None:
        if self._bar is None:  # not the leader
            return
        self._bar.n = (epoch + step / steps) * self._examples
        self._bar.set_postfix_str(
            f"epoch {epoch + 1}/{self._epochs}, loss {means['loss']:.4f}, "
            f"accuracy {means['accuracy']:.4f}"
        )

    def epoch_end(self, row: Mapping[str, Any]) -> None:
        processes.from_leader(lambda: self._epoch_end(row))

    def _epoch_end(self, row: Mapping[str, Any]) -> None:
        self._run.append_row(METRICS, row)
        self._write_events(row)
        self.progress(row["epoch"] - 1, 1, 1, row["train"])
        now = time.monotonic()
        assert self._bar is not None  # of the leader
        if self._bar.disable and (
            now - self._line_at > _SECONDS_BETWEEN_LINES or row["epoch"] == self._epochs
        ):
            self._line_at = now
            left = row["seconds"] / row["epoch"] * (self._epochs - row["epoch"])
            self._say(
                f"epoch {row['epoch']:3}/{self._epochs}  "
                f"train loss {row['train']['loss']:.4f} accuracy {row['train']['accuracy']:.4f}  "
                f"validation accuracy {row['validation']['accuracy']:.4f}  "
                f"{row['epoch'] * self._examples / row['seconds']:,.0f} examples/s, "
                f"{left:.0f} s left"
            )

    def should_stop(self) -> bool:
        return self._signals.received is not None

    def _write_events(self, row: Mapping[str, Any]) -> None:
        for split in ("train", "validation"):
            for name, value in row[split].items():
                self._events.add_scalar(f"{split}/{name}", value, row["step"])
        self._events.flush()
