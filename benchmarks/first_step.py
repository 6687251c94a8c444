"""A process's way through its first four training steps, which may be one call: ``python -m
benchmarks.first_step LIBRARY NETWORK FOLDER`` prints seconds and peak memory as JSON."""

import itertools
import json
import sys
import time
from pathlib import Path

_BATCH, _EXAMPLES, _STEPS = 64, 60_000, 20


def main(library: str, network: str, folder: str) -> dict[str, float]:
    """Import, set up and take some steps with ``library``; compiled programs lie in ``folder``."""
    laps = [time.perf_counter()]
    from benchmarks import contestants, provenance
    from cnnjax.runtime.allocator import keep_memory
    from cnnjax.runtime.compilation import cache_programs
    from cnnjax.training.devices import STEPS_A_CALL

    keep_memory()
    laps.append(time.perf_counter())
    data = contestants.images(_EXAMPLES)
    if library == "cnnjax":
        cache_programs(Path(folder))
        run = contestants.ours(network, _BATCH, data)
    else:
        run = contestants.in_flax(network, _BATCH, data)
    laps.append(time.perf_counter())
    run(STEPS_A_CALL)
    laps.append(time.perf_counter())
    run(_STEPS)
    seconds = [after - before for before, after in itertools.pairwise(laps)]
    return {
        "import_s": seconds[0],
        "set_up_s": seconds[1],
        "first_step_s": seconds[2],
        "peak_mb": provenance.peak_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
