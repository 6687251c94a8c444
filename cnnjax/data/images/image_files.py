"""Arrays of images that are in files, and are decoded when they are asked for."""

import concurrent.futures
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.images import views
from cnnjax.data.images.decoding import opened
from cnnjax.errors import UserError
from cnnjax.runtime.cores import cores

KEPT_BYTES = 1 << 30
"""So much of decoded images is kept in memory; what is larger is decoded whenever it is needed."""

CHANNELS = 3


class _Collection:
    """The files that arrays of one data set share, and what is kept of them."""

    def __init__(self, paths: Sequence[Path], digests: np.ndarray, size: int):
        self.paths, self.digests = tuple(paths), digests
        self.shape = (size, size, CHANNELS)
        self._kept: dict[int, np.ndarray] = {}
        self._room = KEPT_BYTES // int(np.prod(self.shape))

    def centre(self, number: int) -> np.ndarray:
        """The central view of a file, from memory where it is kept."""
        if (kept := self._kept.get(number)) is not None:
            return kept
        with opened(self.paths[number]) as image:
            view = views.centre(image, self.shape)
        if len(self._kept) < self._room:
            self._kept[number] = view
        return view

    def random_crop(self, number: int, draw: tuple[int, int]) -> np.ndarray:
        """A random view of a file, a function of (seed, epoch) and its number."""
        # RandomState is the one generator whose stream is frozen.
        random = np.random.RandomState([*draw, number])
        with opened(self.paths[number]) as image:
            return views.random_crop(image, self.shape, random)


class ImageFiles:
    """Images of one size: stands where an array uint8[N, S, S, 3] would, and is read as one.

    ``files[rows]`` is a selection, with nothing decoded; ``np.asarray(files)`` decodes it, in as
    many threads as there are cores.  Of the central views :data:`KEPT_BYTES` are kept, so what is
    smaller is decoded once.

    Args:
        paths: of N files.
        digests: uint8[N, 32], the SHA-256 of each.
        size: S.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: Sequence[Path], digests: np.ndarray, size: int):
        self._collection = _Collection(paths, digests, size)
        self._numbers = np.arange(len(paths))
        self._draw: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, S, S, 3)."""
        return (len(self), *self._collection.shape)

    @property
    def nbytes(self) -> int:
        """Of all images, decoded."""
        return int(np.prod(self.shape))

    @property
    def paths(self) -> list[Path]:
        """The file of every image."""
        return [self._collection.paths[number] for number in self._numbers]

    @property
    def sha256(self) -> str:
        """Of the files' contents, in order, and of how they are seen."""
        digest = hashlib.sha256(f"{self.shape}{self._draw}".encode())
        digest.update(np.ascontiguousarray(self._collection.digests[self._numbers]).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, rows: slice | np.ndarray) -> "ImageFiles":
        return self._with(self._numbers[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        images = np.empty(self.shape, self.dtype)

        def fill(row: int) -> None:
            number = int(self._numbers[row])
            if self._draw is None:
                images[row] = self._collection.centre(number)
            else:
                images[row] = self._collection.random_crop(number, self._draw)

        list(threads().map(fill, range(len(self))))
        return images if dtype is None else images.astype(dtype, copy=False)

    def joined(self, others: Sequence["ImageFiles"]) -> "ImageFiles":
        """These and others of the same data set, one after the other."""
        return self._with(np.concatenate([self._numbers, *(other._numbers for other in others)]))

    def random_crops(self, seed: int, epoch: int) -> "ImageFiles":
        """The same files, each seen at random (:func:`cnnjax.data.images.views.random_crop`).

        What is seen is a function of seed, epoch and the file's place in the data set, whatever
        selection it is part of and wherever it is decoded.
        """
        return self._with(self._numbers, (seed, epoch))

    def _with(self, numbers: np.ndarray, draw: tuple[int, int] | None = None) -> "ImageFiles":
        new = object.__new__(ImageFiles)
        new._collection, new._numbers, new._draw = self._collection, numbers, draw or self._draw
        return new


def random_crops(inputs: Any, seed: int, epoch: int) -> ImageFiles:
    """``inputs.random_crops(seed, epoch)``: as :attr:`cnnjax.training.Task.views`.

    Raises:
        UserError: ``inputs`` are no files.
    """
    if not isinstance(inputs, ImageFiles):
        raise UserError("random crops are made of image files: take dataset=folder:PATH")
    return inputs.random_crops(seed, epoch)


def threads() -> concurrent.futures.ThreadPoolExecutor:
    """This process's threads for decoding: Pillow decodes and resizes without Python's lock."""
    return _threads_of(os.getpid())


@functools.cache
def _threads_of(process: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(cores(), "decoding")
