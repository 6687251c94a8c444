"""``--suite=sweeps``: many trials of the LeNets at once, beside PyTorch.

The trials differ in learning rate and seed.  Every contestant goes on with all of them, a sample of
so many steps each a round: in turn, in one vmapped program, or in one process a core.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import contestants, speed_tables
from benchmarks.contestants import Contestants, Trial, in_turn, require_agreement
from benchmarks.own_process import OwnProcess
from benchmarks.provenance import provenance
from benchmarks.side_by_side import fastest, interleave, ratio
from benchmarks.tables import RESULTS
from cnnjax.files.durable import write_json
from cnnjax.runtime.compilation import run_where_called
from cnnjax.runtime.cores import cores
from cnnjax.sweeps.engines import use_threads
from cnnjax.training import Devices

NETWORKS = ("lenet1", "lenet5")
BATCH, EXAMPLES = 64, 6400
STEPS = {16: 40, 64: 16}
"""Trials -> steps of each in a round."""
ROUNDS = 5
_IN_ONE_PROGRAM = 16  # trials, at most, on CPU: there it gets slower, the more there are
_TORCH = ("eager", "channels_last")

Build = Callable[[Sequence[Trial], int], Contestants]
"""``build(trials, threads)``; can be pickled."""


def measure() -> None:
    """Measure everything and write ``results/sweeps.json``."""
    measured = []
    for row in rows():
        print(speed_tables.sweep_line(row), flush=True)
        measured.append(row)
    content = {
        **provenance(),
        "device": jax.devices()[0].device_kind,
        "torch_device": _torch_device(),
        "cores": cores(),
        "batch_size": BATCH,
        "examples": EXAMPLES,
        "rows": measured,
    }
    write_json(RESULTS / "sweeps.json", content)


def rows(steps: Mapping[int, int] = STEPS, rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """The rows of the result, each as soon as there is one."""
    for network in NETWORKS:
        _require_agreement(network)
        for count, each in steps.items():
            yield _row(network, _trials(count), each, rounds)


def _trials(count: int) -> list[Trial]:
    rates = np.geomspace(0.0005, 0.008, count)
    return [Trial(seed, float(rate)) for seed, rate in enumerate(rates)]


def _row(network: str, trials: Sequence[Trial], steps: int, rounds: int) -> dict[str, Any]:
    jax.clear_caches()  # every row's first steps compile
    ours = functools.partial(_ours, network)
    on_cpu = jax.default_backend() == "cpu"
    with contextlib.ExitStack() as workers:

        def a_core(build: Build) -> Contestants:
            return workers.enter_context(Workers(build, trials))

        makers: dict[str, Callable[[], Contestants]] = {
            "processes": lambda: a_core(ours),
            "in_turn": lambda: ours(trials, cores()),
        }
        if not on_cpu or len(trials) <= _IN_ONE_PROGRAM:
            data = contestants.images(EXAMPLES)
            makers["one_program"] = functools.partial(
                contestants.ours_together, network, BATCH, data, trials
            )
        for variant in _TORCH:
            torch = functools.partial(_torch, network, variant, _torch_device())
            makers[f"torch_in_turn {variant}"] = functools.partial(torch, trials, cores())
            torch = functools.partial(_torch, network, variant, "cpu")
            makers[f"torch_processes {variant}"] = functools.partial(a_core, torch)

        runs, first_step_s = {}, {}
        for name, make in makers.items():
            start = time.perf_counter()
            runs[name] = make()
            runs[name](1)
            first_step_s[name] = time.perf_counter() - start
            runs[name](2)  # some programs are compiled anew where they first go on
        variants = {}
        for way in ("torch_in_turn", "torch_processes"):
            candidates = {name: runs.pop(name) for name in [*runs] if name.startswith(way)}
            short = {name: functools.partial(run, 4) for name, run in candidates.items()}
            best = fastest(interleave(short, rounds=3, seconds=0), list(short))
            runs[way], variants[way] = candidates[best], best.split()[1]
            first_step_s[way] = first_step_s[best]
        functions = {name: functools.partial(run, steps) for name, run in runs.items()}
        times = interleave(functions, rounds=rounds, seconds=0)

    main = "processes" if on_cpu else "one_program"
    one_program = "one_program" in times
    return {
        "network": network,
        "trials": len(trials),
        "steps": steps,
        "rounds": rounds,
        "way": main,
        "torch_variants": variants,
        "steps_per_s": {
            name: len(trials) * steps / float(np.median(values)) for name, values in times.items()
        },
        "first_step_s": {name: first_step_s[name] for name in times},
        "against_torch_in_turn": ratio(times, "torch_in_turn", main),
        "against_torch_processes": ratio(times, "torch_processes", main),
        "in_turn_against_torch_in_turn": ratio(times, "torch_in_turn", "in_turn"),
        "one_program_against_torch_in_turn": (
            ratio(times, "torch_in_turn", "one_program") if one_program else None
        ),
    }


def _require_agreement(network: str) -> None:
    """Trials must have the same losses in all, in some steps on one batch."""
    from benchmarks import torch_lenets

    trials, data = _trials(3), contestants.images(BATCH)
    runs = {
        "in turn": in_turn([contestants.ours(network, BATCH, data, trial=t) for t in trials]),
        "one program": contestants.ours_together(network, BATCH, data, trials),
        "PyTorch": in_turn(
            [torch_lenets.contestant(network, BATCH, data, trial=t) for t in trials]
        ),
    }
    losses = {name: [run(1) for _ in range(3)] for name, run in runs.items()}
    require_agreement(f"{network}, {len(trials)} trials", losses)


def _ours(network: str, trials: Sequence[Trial], threads: int) -> Contestants:
    use_threads(threads)  # here, where the backend has started, it has all cores already
    run_where_called()
    data = Devices("single").replicate(contestants.images(EXAMPLES))
    return in_turn([contestants.ours(network, BATCH, data, trial=trial) for trial in trials])


def _torch(
    network: str, variant: str, device: str, trials: Sequence[Trial], threads: int
) -> Contestants:
    import torch

    from benchmarks import torch_lenets

    torch.set_num_threads(threads)
    data = contestants.images(EXAMPLES)
    make = functools.partial(
        torch_lenets.contestant, network, BATCH, data, variant=variant, device=device
    )
    return in_turn([make(trial=trial) for trial in trials])


def _torch_device() -> str:
    """PyTorch's, in turn: the GPU where cnnjax has it too."""
    import torch

    return "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"


class Workers:
    """Contestants in one process a core, each with its even share of trials and of cores.

    They compute on CPU, live as long as the context, and start a round together: when the last has
    ended the round before.  The trials are dealt out in advance; the product's engine hands them
    out one by one, and has the same threads, allocator and programs.

    Args:
        build: makes what a process runs.
        trials: of all.
    """

    def __init__(self, build: Build, trials: Sequence[Trial]):
        count = min(cores(), len(trials))
        threads = max(1, cores() // count)
        self._workers = [
            OwnProcess(functools.partial(_on_cpu, build, trials[first::count], threads))
            for first in range(count)
        ]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Contestants:
        for worker in self._workers:
            self._stack.enter_context(worker)
        return self._run

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _run(self, steps: int) -> list[float]:
        # By process, not in the order of the trials.
        for worker in self._workers:
            worker.start(steps)
        return [loss for worker in self._workers for loss in worker.result()]


def _on_cpu(build: Build, trials: Sequence[Trial], threads: int) -> Contestants:
    jax.config.update("jax_platforms", "cpu")
    return build(trials, threads)
