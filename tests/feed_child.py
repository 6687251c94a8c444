"""Train on the images of a folder in a process of its own, and print how its memory grew, in MB.

Arguments: the folder, its data directory, and how many bytes of decoded images may be kept.
"""

import sys

import jax
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from benchmarks.provenance import peak_mb
from cnnjax.data.images import image_files as files
from cnnjax.training import Devices, Plan, Programs, Task, feed, fit


@struct.dataclass
class Hparams:
    learning_rate: float = 0.01


class Colour(nn.Module):
    """The mean colour -> a class."""

    @nn.compact
    def __call__(self, inputs, *, dropout=None):
        mean = inputs.mean((1, 2))
        return nn.Dense(3)(mean), {"mean": mean}


def main(folder: str, data_dir: str, kept: int) -> None:
    files.KEPT_BYTES = feed.KEPT_BYTES = kept
    from cnnjax import data

    splits = data.load(f"folder:{folder}", data_dir).splits
    task = Task(
        Colour(),
        lambda hparams: optax.sgd(hparams.learning_rate),
        prepare=lambda inputs: inputs.astype("float32") / 255,
    )
    programs = Programs(task, Devices("single"))
    train = lambda some: fit(
        task, some, Hparams(), Plan(epochs=1, batch_size=16), programs=programs
    )
    few = {
        split: {name: array[:64] for name, array in part.items()} for split, part in splits.items()
    }
    for part in few.values():
        part["inputs"] = np.asarray(part["inputs"])
    train(few)  # compiles
    before = peak_mb()
    fitted = train(splits)
    jax.block_until_ready(fitted.params)
    whole = sum(part["inputs"].nbytes for part in splits.values())
    print("decoded", whole / 1e6, "grown", peak_mb() - before)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
