"""``python -m tests.fuzz [READER ...] --inputs=20000``: read mutated files, of all by default.

Each is read in a child with limits.  What ends badly is kept in ``--keep`` and ends the command
with status 1: an exception that is no UserError, a message of several lines, more than 2 s, more
than 3 times the file and 64 MB, or other values where a checksum could tell.
"""

import argparse
import sys
from pathlib import Path

from tests.fuzz import readers
from tests.fuzz.campaign import campaign

_SHOWN = 5


def main(arguments: list[str]) -> int:
    """Returns the command's status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"of {', '.join(readers.ALL)}")
    parser.add_argument("--inputs", type=int, default=20_000, help="of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args(arguments)
    if unknown := set(options.readers) - readers.ALL.keys():
        parser.error(f"no reader {', '.join(sorted(unknown))}; there are {', '.join(readers.ALL)}")
    failed = False
    for name in options.readers or readers.ALL:
        counts, bad = campaign(readers.ALL[name], options.inputs, options.seed)
        print(
            f"{name}: {options.inputs:,} inputs, {counts['read']:,} read, "
            f"{counts['refused']:,} refused, {len(bad):,} bad ends",
            flush=True,
        )
        for one in bad:
            folder = options.keep / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{options.seed}-{one.number}").write_bytes(one.content)
        for one in bad[:_SHOWN]:
            print(f"  {options.seed}-{one.number}: {one.why.strip()}")
        failed = failed or bool(bad)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
