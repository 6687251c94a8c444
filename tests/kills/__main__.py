"""``python -m tests.kills --kills=500``: kill runs at random moments, go on, compare the bits.

A chain is one folder: a run is started and killed up to three times, by SIGKILL or (one time in
four) by SIGINT or SIGTERM, and then goes on to its end, which must be that of the run that nobody
killed.  Ends with status 1 and names the chains where it is not.
"""

import argparse
import concurrent.futures
import itertools
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.kills.scenarios import SCENARIOS, Run

_MOST_KILLS = 3  # of a chain


def main(arguments: list[str]) -> int:
    """Returns the command's status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; by default all")
    parser.add_argument("--kills", type=int, default=500, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="chains at once")
    options = parser.parse_args(arguments)
    if unknown := set(options.scenarios) - SCENARIOS.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    names = options.scenarios or list(SCENARIOS)
    with tempfile.TemporaryDirectory() as folder:
        return campaign(names, options.kills, options.seed, options.jobs, Path(folder))


def campaign(names: list[str], kills: int, seed: int, jobs: int, folder: Path) -> int:
    """Returns the command's status."""
    data_dir = folder / "data"
    expected, seconds = {}, {}
    for name in names:
        for attempt in ("first", "uninterrupted"):  # the first prepares and compiles
            run = Run(name, folder / f"{name}-{attempt}", data_dir)
            seconds[name] = run.finish()
            expected.setdefault(name, run.outcome())
        assert run.outcome() == expected[name], f"{name}: not the same twice"
        print(f"{name}: {seconds[name]:.1f} s uninterrupted", flush=True)
    done, failed, lived = dict.fromkeys(names, 0), [], dict.fromkeys(names, 0)
    chains = ((name, number) for number in itertools.count() for name in names)

    def one(chain: tuple[str, int]) -> tuple[str, int, str | None]:
        name, number = chain
        draw = random.Random(f"{seed} {name} {number}")
        run = Run(name, folder / f"{name}-{number}", data_dir)
        return name, *_chain(run, seconds[name], expected[name], draw)

    with concurrent.futures.ThreadPoolExecutor(jobs) as threads:
        while sum(done.values()) < kills:
            for name, count, problem in threads.map(one, itertools.islice(chains, jobs)):
                done[name] += count
                lived[name] += 1
                if problem:
                    failed.append(f"{name}: {problem}")
                    print(failed[-1], flush=True)
    for name in names:
        print(f"{name}: {done[name]} kills in {lived[name]} runs")
    print(f"{sum(done.values())} kills, {sum(lived.values())} runs, {len(failed)} not the same")
    return int(bool(failed))


def _chain(run: Run, seconds: float, expected: dict, draw: random.Random) -> tuple[int, str | None]:
    """How often it was killed, and what went wrong, if anything did."""
    kills, history = 0, []
    try:
        for _ in range(draw.randint(1, _MOST_KILLS)):
            number = draw.choice([signal.SIGKILL] * 6 + [signal.SIGINT, signal.SIGTERM])
            after = draw.uniform(0, seconds)
            run.start()
            kills += run.end_after(after, number)
            history.append(f"{signal.Signals(number).name} after {after:.2f} s")
        run.finish()
        found = run.outcome()
        differing = [file for file in expected if found.get(file) != expected[file]]
        if differing:
            return kills, f"{'; '.join(history)}: other {', '.join(differing)}"
    except AssertionError as error:
        return kills, f"{'; '.join(history)}: {error}"
    shutil.rmtree(run.workdir)
    return kills, None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
