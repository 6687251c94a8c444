"""One run of ``launch.py`` with a clock on its parts: ``start_child.py STARTED_AT ARGUMENT...``.

The last line of its output is JSON: seconds by part, by imported package and by compiled program.
Every moment of the main thread counts for the innermost part that it lies in; ``STARTED_AT`` is the
caller's ``time.monotonic()`` just before it started this process.
"""

import builtins
import collections
import functools
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_IMPORT = "import"
_COMPILATION = {
    "/jax/core/compile/jaxpr_trace_duration": "trace and lower",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "trace and lower",
    "/jax/core/compile/backend_compile_duration": "compile",
    "/jax/compilation_cache/cache_retrieval_time_sec": "read programs",
}
_SHORTEST_IMPORT = 2e-4  # shorter ones were imported before


class Clock:
    """Intervals of the main thread, each with its part and a detail (a package, a program)."""

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float, str, str]] = []

    def add(self, start: float, end: float, part: str, detail: str = "") -> None:
        """An interval that has just ended; of other threads, nothing."""
        if threading.current_thread() is threading.main_thread():
            self._intervals.append((start, end, part, detail))

    def timed(self, part: str, function: Callable, finish: Callable = lambda result: None) -> Any:
        """``function`` as an interval; ``finish`` of its result is part of it."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                result = function(*args, **kwargs)
                finish(result)
                return result
            finally:
                self.add(start, time.monotonic(), part)

        return call

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time the function ``owner.name``."""
        setattr(owner, name, self.timed(part, getattr(owner, name)))

    def seconds(self) -> dict[tuple[str, str], float]:
        """(part, detail) -> seconds in it, and in nothing inside it."""
        found: dict[tuple[str, str], float] = collections.defaultdict(float)
        around: list[tuple[float, tuple[str, str]]] = []
        for start, end, *key in sorted(self._intervals, key=lambda i: (i[0], -i[1])):
            while around and around[-1][0] <= start:
                around.pop()
            if around:
                end = min(end, around[-1][0])  # clocks differ by microseconds
                found[around[-1][1]] -= end - start
            found[tuple(key)] += end - start
            around.append((end, tuple(key)))
        return found

    def count(self, part: str) -> int:
        """How many intervals there are of a part."""
        return sum(interval[2] == part for interval in self._intervals)


def watch_imports(clock: Clock) -> None:
    """Time imports, from wherever they are made, by the package that is imported."""

    def watched(function: Callable, package: Callable[..., str]) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                end = time.monotonic()
                if end - start > _SHORTEST_IMPORT:
                    clock.add(start, end, _IMPORT, package(*args, **kwargs).partition(".")[0])

        return call

    def imported(name: str, globals: Any = None, locals: Any = None, fromlist=(), level=0) -> str:
        return (globals["__package__"] or name) if level else name

    builtins.__import__ = watched(builtins.__import__, imported)
    importlib.import_module = watched(
        importlib.import_module, lambda name, package=None: package or name
    )


def watch_compilation(clock: Clock) -> None:
    """Time traces, lowerings, compilations and readings of compiled programs, as jax reports."""
    import jax

    def listen(event: str, seconds: float, **about: Any) -> None:
        if event in _COMPILATION:
            end = time.monotonic()
            program = str(about.get("fun_name", ""))
            clock.add(end - seconds, end, _COMPILATION[event], program)

    jax.monitoring.register_event_duration_secs_listener(listen)


def watch_run(clock: Clock) -> None:
    """Time the parts of a run."""
    import jax

    from cnnjax import data
    from cnnjax.experiment import observers, run, trial
    from cnnjax.reports import figures
    from cnnjax.training import checkpoints, programs

    for owner, name, part in (
        (run, "train", "final measurement, files"),
        (data, "load", "data"),
        (data, "divide", "data"),
        (run, "provenance", "versions, git"),
        (trial, "fit", "validation, order"),
        (checkpoints.Checkpoints, "save", "checkpoints"),
        (checkpoints.Checkpoints, "restore", "checkpoints"),
        (observers.RunObserver, "start", "progress, events"),
        (observers.RunObserver, "epoch_end", "progress, events"),
        (observers.RunObserver, "__exit__", "progress, events"),
        (figures, "write_report", "pictures"),
    ):
        clock.wrap(owner, name, part)
    # Training waits for the steps after each epoch anyway.
    advance = clock.timed("steps", programs.Programs.advance, jax.block_until_ready)
    programs.Programs.advance = advance


def main(started_at: float, arguments: list[str]) -> dict[str, Any]:
    """Run the command; seconds by part, package and program."""
    clock = Clock()
    began = time.monotonic()
    clock.add(started_at, began, "Python")
    watch_imports(clock)
    watch_compilation(clock)
    import experiments
    from cnnjax.command import main as command_line

    watch_run(clock)
    status = command_line(experiments, arguments)
    ended = time.monotonic()
    if status:
        raise SystemExit(status)
    clock.add(began, ended, "the rest")
    parts: dict[str, float] = collections.defaultdict(float)
    packages: dict[str, float] = collections.defaultdict(float)
    programs: dict[str, float] = collections.defaultdict(float)
    for (part, detail), seconds in clock.seconds().items():
        parts[part] += seconds
        if part == _IMPORT:
            packages[detail] += seconds
        elif part in _COMPILATION.values():
            programs[detail] += seconds
    return {
        "parts": parts,
        "packages": packages,
        "programs": programs,
        "compiled": clock.count("compile") - clock.count("read programs"),
        "read": clock.count("read programs"),
        "cpu": time.process_time(),
        "ended_at": ended,
    }


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]), sys.argv[2:])))
