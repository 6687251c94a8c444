"""``--suite=sentence``: Kim's network on sentences, training step and epoch, beside PyTorch."""

import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import sentence_steps, torch_sentence
from benchmarks.contestants import require_agreement
from benchmarks.own_process import own_processes
from benchmarks.provenance import provenance
from benchmarks.sentence_steps import BATCH, VARIANTS, Contestant, Data
from benchmarks.side_by_side import fastest, ratio, step_times
from benchmarks.speed_tables import sentence_line
from benchmarks.tables import RESULTS
from cnnjax.files.durable import write_json

_OURS = "cnnjax", "cnnjax, whole length"
_BY_LENGTH = "by length"  # PyTorch on cnnjax's short batches
_STEPS, _ROUNDS, _EPOCHS = 30, 7, 5


def measure(manual_dir: str | None) -> None:
    """Measure both variants and write ``results/sentence.json``."""
    torch.set_num_threads(os.cpu_count() or 1)
    examples, words, source = sentence_steps.sentences(manual_dir)
    content = {
        **provenance(),
        "threads": torch.get_num_threads(),
        "data": source,
        "sentences": len(examples["labels"]),
        "vocabulary": words,
        "rows": [],
    }
    for variant in VARIANTS:
        content["rows"].append(_row(variant, words, examples, manual_dir))
        print(sentence_line(content["rows"][-1]), flush=True)
    write_json(RESULTS / "sentence.json", content)


def _row(variant: str, words: int, examples: Data, manual_dir: str | None) -> dict[str, Any]:
    _require_agreement(variant, words, examples)
    steps = -(-len(examples["labels"]) // BATCH)
    build = functools.partial(_contestant, variant=variant, manual_dir=manual_dir)
    with own_processes(build, (*_OURS, *torch_sentence.VARIANTS, _BY_LENGTH)) as runs:
        for name, run in runs.items():  # compiles all sizes of batches, or warms up
            run(_STEPS if name in torch_sentence.VARIANTS else 2 * steps)
        times = step_times(runs, _STEPS, first=1, rounds=_ROUNDS, seconds=0)
        best = fastest(times, torch_sentence.VARIANTS)
        whole = {name: runs[name] for name in ("cnnjax", best, _BY_LENGTH)}
        epoch = step_times(whole, steps, first=1, rounds=_EPOCHS, seconds=0)
    return {
        "variant": variant,
        "torch_variant": best,
        "step_ms": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "step_against_torch": ratio(times, best, "cnnjax"),
        "step_whole_length_against_torch": ratio(times, best, "cnnjax, whole length"),
        "step_against_torch_by_length": ratio(times, _BY_LENGTH, "cnnjax"),
        "epoch_s": {name: steps * statistics.median(values) for name, values in epoch.items()},
        "epoch_against_torch": ratio(epoch, best, "cnnjax"),
        "epoch_against_torch_by_length": ratio(epoch, _BY_LENGTH, "cnnjax"),
        "peak_mb": {
            library: _peak(library, variant, manual_dir) for library in ("cnnjax", "torch")
        },
    }


def _contestant(name: str, variant: str, manual_dir: str | None) -> Contestant:
    """Made where it runs, in a process of its own."""
    examples, words, _ = sentence_steps.sentences(manual_dir)
    if name in _OURS:
        return sentence_steps.ours(variant, words, examples, by_length=name == _OURS[0])
    torch.set_num_threads(os.cpu_count() or 1)
    params = sentence_steps.parameters(variant, words, examples["inputs"].shape[1])
    make = functools.partial(
        torch_sentence.contestant, params, examples, static=variant == "static"
    )
    if name != _BY_LENGTH:
        return make(variant=name)
    order = sentence_steps.order(variant, words, examples)

    def batches(epoch: int) -> Iterator[tuple[np.ndarray, int]]:
        rows, weights, sizes = order.epoch(epoch)
        for r, w, size in zip(np.asarray(rows), np.asarray(weights), sizes, strict=True):
            yield r[w > 0], size.columns

    return make(variant="conv1d, foreach", batches=batches)


def _require_agreement(variant: str, words: int, examples: Data) -> None:
    """All must have the same losses in some steps on one batch, without dropout."""
    one = {name: array[:BATCH] for name, array in examples.items()}
    params = sentence_steps.parameters(variant, words, examples["inputs"].shape[1])
    runs = {
        "cnnjax": sentence_steps.ours(variant, words, one, dropout=False),
        "cnnjax, whole length": sentence_steps.ours(
            variant, words, one, dropout=False, by_length=False
        ),
    }
    for name in torch_sentence.VARIANTS:
        runs[name] = torch_sentence.contestant(
            params, one, static=variant == "static", variant=name, dropout=False
        )
    require_agreement(variant, {name: [run(1) for _ in range(4)] for name, run in runs.items()})


def _peak(library: str, variant: str, manual_dir: str | None) -> float:
    """Peak memory of a process that trains for an epoch with ``library``."""
    command = [sys.executable, "-m", "benchmarks.sentence_memory", library, variant]
    command += [manual_dir] if manual_dir else []
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])
