"""What a data set is, and how splits are drawn where its source has none."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cnnjax.data.images import ImageFiles
from cnnjax.errors import UserError

Inputs = np.ndarray | ImageFiles
Split = Mapping[str, Any]
"""Of N examples the "inputs", which are :data:`Inputs`, and the "labels", int32[N]."""

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a task must know of a data set: enough to build the network again without the data.

    Attributes:
        shape: of one input: (H, W, C) of images, (T,) of sentences.
        classes: the K class names, in label order.
        examples: in the training split.
        vocabulary: the V words, in the order of their ids; those of ids 0 and 1 are the marks of
            padding and of an unknown word.  Empty where the inputs are images.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    examples: int
    vocabulary: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    def require_images(self, dataset: str) -> None:
        """Raise UserError, naming the data set, if its inputs are no images."""
        if self.vocabulary:
            raise UserError(f"{dataset} has sentences; this experiment takes images, as digits has")


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A named data set, in memory or in image files.

    Attributes:
        name: as it was asked for.
        splits: "train", "validation" and "test", each with "labels" int32[N] and "inputs": images
            [N, H, W, C], uint8 in 0..255, or where that would round what was published, float32
            in 0..1 (:func:`cnnjax.ops.intensity` takes either), or in files
            (:class:`cnnjax.data.ImageFiles`); or sentences int32[N, T] as rows of word ids.
        classes: the K class names, in label order.
        provenance: "source" and "split": where it comes from and how it was split; of sentences
            "cleaning", how they were cut into words; of images in files "view", how they are seen;
            from :func:`cnnjax.data.load` also "sha256",
            the checksum of all arrays.
        vocabulary: as in :class:`Spec`.
    """

    name: str
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    vocabulary: tuple[str, ...] = ()

    @property
    def spec(self) -> Spec:
        """Shape, classes, size and vocabulary."""
        inputs = self.splits["train"]["inputs"]
        return Spec(tuple(inputs.shape[1:]), self.classes, len(inputs), self.vocabulary)

    def with_checksum(self) -> "DataSet":
        """The same, with the "sha256" of all arrays: inputs and labels of every split in order.

        Of sentences the words are part of it too: the same ids may stand for others.
        """
        arrays = [self.splits[split][key] for split in SPLITS for key in ("inputs", "labels")]
        if self.vocabulary:
            arrays.append(np.frombuffer("\n".join(self.vocabulary).encode(), np.uint8))
        return dataclasses.replace(
            self, provenance={**self.provenance, "sha256": checksum(*arrays)}
        )

    def describe(self) -> str:
        """One line: name, sizes, classes and source."""
        sizes = " / ".join(
            f"{len(split['labels']):,} {name}" for name, split in self.splits.items()
        )
        shape = "x".join(map(str, self.spec.shape))
        what = f"examples of {shape}"
        if self.vocabulary:
            what = f"sentences (rows of {shape}, {len(self.vocabulary) - 2:,} different words)"
        return (
            f"{self.name}: {sizes} {what} in {len(self.classes)} classes, "
            f"from {self.provenance['source']}"
        )


def stratified_parts(labels: np.ndarray, fractions: Iterable[float], seed: int) -> list[np.ndarray]:
    """Disjoint index arrays, one per fraction, each with every class in the same proportion.

    What the fractions leave over is the last, additional part.  A part has exactly
    round(fraction * N) members (fewer only if classes are too small to give them), and each
    class's share of it is exact to one example.  The draw is a function of ``labels`` and
    ``seed`` alone, today and with any later version of NumPy (RandomState is the one generator
    whose stream is frozen).

    Args:
        labels: int[N].
        fractions: the share of every class that goes to each part; their sum is below 1.
        seed: of the draw.

    Returns:
        Sorted int64[n] index arrays, one more than ``fractions``.
    """
    random = np.random.RandomState(seed)
    fractions = list(fractions)
    parts: list[list[np.ndarray]] = [[] for _ in range(len(fractions) + 1)]
    seen, taken = 0, [0] * len(fractions)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        seen += len(members)
        for i, fraction in enumerate(fractions):
            # Rounding the running total, not each class, carries the remainders over.
            quota = min(round(fraction * seen) - taken[i], len(members))
            taken[i] += quota
            chosen, members = np.split(members, [quota])
            parts[i].append(chosen)
        parts[-1].append(members)
    return [np.sort(np.concatenate(part)) for part in parts]


def take(inputs: Inputs, labels: np.ndarray, rows: np.ndarray) -> Split:
    """The split that consists of ``rows``."""
    return {"inputs": select(inputs, rows), "labels": labels[rows].astype(np.int32)}


def select(inputs: Inputs, rows: np.ndarray | None) -> Inputs:
    """``inputs[rows]``, all where there are no ``rows``; consecutive ones are not copied."""
    if rows is None:
        return inputs
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return inputs[rows[0] : rows[0] + len(rows)]
    return inputs[rows]


def checksum(*arrays: Inputs) -> str:
    """SHA-256 over shapes, types and contents; of images in files, the files' contents."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if isinstance(array, ImageFiles):
            digest.update(array.sha256.encode())
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
