"""Timing that a shared, noisy machine allows: interleaved, and repeated where it was disturbed."""

import functools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Times = dict[str, list[float]]

_DISTURBED = 0.12  # share of the machine that other processes may use in a round
_TICKS = os.sysconf("SC_CLK_TCK")


def interleave(
    functions: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float
) -> Times:
    """Seconds per call of every function, once a round, in rounds A B C, C B A, A B C, ...

    A round in which other processes used more than 12 % of the machine is repeated (at most as
    often as there are rounds).

    Args:
        functions: by name; each returns when its work is done.
        rounds: how many.
        seconds: about how long a function is called in every round; 0: once, and it is warm.
    """
    calls = {
        name: _calls(function, seconds) if seconds else 1 for name, function in functions.items()
    }
    times: Times = {name: [] for name in functions}
    repeats = rounds
    while len(times[next(iter(times))]) < rounds:
        others = _Others()
        names = list(functions)[:: 1 if len(times[next(iter(times))]) % 2 == 0 else -1]
        measured = {name: _time(functions[name], calls[name]) for name in names}
        if others.share() > _DISTURBED and repeats:
            repeats -= 1
            continue
        for name, value in measured.items():
            times[name].append(value)
    return times


def step_times(
    runs: Mapping[str, Callable[[int], object]],
    steps: int,
    *,
    first: int,
    rounds: int,
    seconds: float,
) -> Times:
    """Seconds a step of every ``run(steps)``, so many steps at a time, interleaved.

    Before, each takes ``first`` steps, so that nothing is compiled or captured in a round: an
    epoch's, where its last batch is smaller.
    """
    for run in runs.values():
        run(first)
    calls = {name: functools.partial(run, steps) for name, run in runs.items()}
    times = interleave(calls, rounds=rounds, seconds=seconds)
    return {name: [t / steps for t in values] for name, values in times.items()}


def ratio(times: Times, reference: str, name: str) -> dict[str, float]:
    """How many times faster ``name`` is than ``reference``: median over rounds, and range."""
    ratios = [a / b for a, b in zip(times[reference], times[name], strict=True)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def fastest(times: Times, names: Sequence[str]) -> str:
    """The name with the smallest median."""
    return min(names, key=lambda name: statistics.median(times[name]))


def _calls(function: Callable[[], object], seconds: float) -> int:
    for _ in range(2):  # the first compiles
        function()
    return max(1, round(seconds / _time(function, 1)))


def _time(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


class _Others:
    """What share of the machine other processes have used since this was made."""

    def __init__(self) -> None:
        self._busy, self._own, self._start = _busy(), _own(), time.perf_counter()

    def share(self) -> float:
        passed = (time.perf_counter() - self._start) * (os.cpu_count() or 1)
        return (_busy() - self._busy - (_own() - self._own)) / passed


def _busy() -> float:
    path = Path("/proc/stat")
    if not path.exists():  # no Linux: every round counts
        return _own()
    user, nice, system, _, _, *interrupts = map(int, path.read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


def _own() -> float:
    times = os.times()
    children = sum(_used(child.pid) for child in multiprocessing.active_children())
    return times.user + times.system + children


def _used(pid: int) -> float:
    path = Path(f"/proc/{pid}/stat")
    if not path.exists():
        return 0.0
    user, system = path.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS
