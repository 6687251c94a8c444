"""``python -m benchmarks.sentence_memory LIBRARY VARIANT [FOLDER]``: peak memory in MB of an
epoch, in a process of its own."""

import sys

from benchmarks import sentence_steps
from benchmarks.provenance import peak_mb


def main(library: str, variant: str, manual_dir: str | None = None) -> float:
    """Train for an epoch with "cnnjax" or "torch"."""
    examples, words, _ = sentence_steps.sentences(manual_dir)
    if library == "cnnjax":
        run = sentence_steps.ours(variant, words, examples)
    else:
        from benchmarks import torch_sentence

        params = sentence_steps.parameters(variant, words, examples["inputs"].shape[1])
        run = torch_sentence.contestant(
            params, examples, static=variant == "static", variant="conv1d, foreach"
        )
    run(-(-len(examples["labels"]) // sentence_steps.BATCH))
    return peak_mb()


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
