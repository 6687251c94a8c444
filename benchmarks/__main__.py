"""``python -m benchmarks --suite=NAME``: measure, keep the result, renew the README's tables."""

import sys

from absl import app, flags, logging

from benchmarks import papers, tables
from cnnjax.runtime.allocator import keep_memory
from cnnjax.runtime.compilation import run_where_called

SUITES = (
    "accelerator",
    "accuracy",
    "backbones",
    "batch_norm",
    "extractor",
    "lenet",
    "sentence",
    "start",
    "sweeps",
    *papers.PAPERS,
)

_SUITE = flags.DEFINE_enum("suite", None, [*SUITES, "tables"], "what to measure", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "prepared data sets")
_MANUAL_DIR = flags.DEFINE_string("manual_dir", None, "data files that you have")
_AGAINST = flags.DEFINE_string("against", None, "start: another checkout, measured in turn")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "start: how often each is run", lower_bound=1)
_VECTORS = flags.DEFINE_string("vectors", None, "kim_vectors: a file of word vectors")
_RUNS = flags.DEFINE_string("runs", "runs/benchmarks", "where runs are kept and gone on with")


def _main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"{argv[1]!r} is no flag; flags are written --name=value")
    logging.set_verbosity(logging.WARNING)
    keep_memory()
    run_where_called()
    if _SUITE.value == "accelerator":
        from benchmarks import accelerator  # imports PyTorch

        accelerator.measure()
    elif _SUITE.value == "accuracy":
        from benchmarks import accuracy

        accuracy.measure(_RUNS.value, _DATA_DIR.value, _MANUAL_DIR.value)
    elif _SUITE.value == "backbones":
        from benchmarks import backbones  # imports PyTorch

        backbones.measure()
    elif _SUITE.value == "batch_norm":
        from benchmarks import batch_norm  # imports PyTorch

        batch_norm.measure(_MANUAL_DIR.value)
    elif _SUITE.value == "extractor":
        from benchmarks import extractor

        extractor.measure(_MANUAL_DIR.value)
    elif _SUITE.value in papers.PAPERS:
        papers.measure(
            _SUITE.value, _RUNS.value, _DATA_DIR.value, _MANUAL_DIR.value, _VECTORS.value
        )
    elif _SUITE.value == "lenet":
        from benchmarks import lenet  # imports PyTorch

        lenet.measure()
    elif _SUITE.value == "sentence":
        from benchmarks import sentence

        sentence.measure(_MANUAL_DIR.value)
    elif _SUITE.value == "start":
        from benchmarks import start

        start.measure(_AGAINST.value, _ROUNDS.value)
    elif _SUITE.value == "sweeps":
        from benchmarks import sweeps

        sweeps.measure()
    tables.renew()


if __name__ == "__main__":
    sys.exit(app.run(_main))
