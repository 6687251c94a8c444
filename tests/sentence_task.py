"""Sentences on which the network for them is tested: synthetic, of all lengths, learnable."""

import functools

import numpy as np

from cnnjax.data import Spec
from experiments.sentence import Config, Hparams, task

WORDS, LONGEST, MARGIN = 150, 20, 4
VOCABULARY = ("<padding>", "<unknown>", *(f"word{i}" for i in range(WORDS - 2)))
LENGTH = LONGEST + 2 * MARGIN
SPEC = Spec((LENGTH,), ("minus", "plus"), 90, VOCABULARY)

SMALL = {"windows": (2, 3), "embedding": 6, "maps": 5, "epochs": 3, "batch_size": 8}


def small_config(**changes) -> Config:
    """A small network; dropout as it is by default."""
    hparams = changes.pop("hparams", Hparams())
    return Config(**(SMALL | changes), hparams=hparams)


def small_task(**changes):
    """Its task."""
    return task(small_config(**changes), SPEC)


@functools.cache
def splits(count: int = 90, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Sentences of 0 to 20 words; the label is which of two words is in."""
    random = np.random.RandomState(seed)
    made = {}
    for split, size in (("train", count), ("validation", 30), ("test", 30)):
        labels = random.randint(0, 2, size).astype(np.int32)
        inputs = np.zeros((size, LENGTH), np.int32)
        lengths = random.randint(0, LONGEST + 1, size)
        lengths[:2] = 0, LONGEST
        for row, label, length in zip(inputs, labels, lengths, strict=True):
            row[MARGIN : MARGIN + length] = 4 + random.zipf(1.4, length) % (WORDS - 4)
            if length:
                row[MARGIN + random.randint(length)] = 2 + label
        made[split] = {"inputs": inputs, "labels": labels}
    return made
