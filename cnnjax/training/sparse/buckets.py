"""The few buckets of sizes that batches of sentences come in: each is a program of its own."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

_CLASSES = 4  # of sentences by length, about equally many in each
_COLUMN_STEP = 8
_ROW_STEP = 32
_SPARE, _AMPLE = 2.0, 10.0  # standard deviations


@dataclasses.dataclass(frozen=True)
class Bucket:
    """What is fixed of a batch when its program is compiled.

    Attributes:
        columns: how many of its inputs are used.
        rows: of a table that it looks up at most, row 0 included.
    """

    columns: int
    rows: int


def length_buckets(inputs: np.ndarray, needed: np.ndarray, batch_size: int) -> tuple[Bucket, ...]:
    """The buckets that batches come in: one for each class of lengths, two for what exceeds them.

    Args:
        inputs: ids int[N, T].
        needed: int[N], how many columns each input needs.
        batch_size: B.

    Returns:
        Growing buckets.  A class has the rows that its batches are expected to look up, and some to
        spare; a batch that needs more has the next one.  The last but one has many to spare and
        the last all that are possible, several times as many.  Both numbers are rounded up, so
        that nearly the same data have the same ones.
    """
    length = inputs.shape[1]
    most = (batch_size + 1) * length + 1  # one more: what fills a batch up is looked up, too
    largest = Bucket(length, min(most, int(inputs.max(initial=0)) + 1))
    quantiles = np.quantile(needed, np.arange(1, _CLASSES + 1) / _CLASSES, method="higher")
    classes = np.unique(np.minimum(_rounded(quantiles, _COLUMN_STEP), length))

    def bucket(columns: int, members: np.ndarray, spare: float) -> Bucket:
        rows = int(_rounded(_expected_rows(members, batch_size, spare), _ROW_STEP))
        return Bucket(int(columns), min(rows, largest.rows))

    buckets, below = [], 0
    for columns in classes:
        members = inputs[(needed > below) & (needed <= columns)]
        buckets.append(bucket(columns, members, _SPARE))
        below = columns
    ample = bucket(classes[-1], members, _AMPLE)
    return tuple(dict.fromkeys((*buckets, ample, largest)))  # small data have some of them equal


def buckets_of(
    inputs: np.ndarray,
    needed: np.ndarray,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    buckets: Sequence[Bucket],
) -> list[Bucket]:
    """The first of ``buckets`` that fits each batch.

    Args:
        inputs: ids int[N, T].
        needed: int[N], how many columns each input needs.
        batches: of each its rows of ``inputs`` and their weights; where that is 0, an input may be
            cut, but is looked up.
        buckets: growing; the last fits all.
    """
    seen = np.zeros(int(inputs.max(initial=0)) + 1, bool)
    found = []
    for rows, weights in batches:
        columns = needed[rows[weights > 0]].max()
        seen[:] = False
        seen[0] = True
        seen[inputs[rows, :columns]] = True
        count = np.count_nonzero(seen)
        found.append(next(b for b in buckets if b.columns >= columns and b.rows >= count))
    return found


def _expected_rows(inputs: np.ndarray, batch_size: int, spare: float) -> float:
    """How many different ids a batch drawn from ``inputs`` has, with 0 and some to spare.

    Those are ``spare`` standard deviations, as if words came independently of each other.
    """
    count, ids = len(inputs), int(inputs.max(initial=0)) + 1
    pairs = np.unique(inputs + np.arange(count)[:, None] * ids)
    share = np.bincount(pairs % ids, minlength=ids)[1:] / count
    present = 1 - (1 - share) ** batch_size
    return 1 + present.sum() + spare * np.sqrt((present * (1 - present)).sum())


def _rounded(values: np.ndarray | float, step: int) -> np.ndarray:
    return np.ceil(np.asarray(values) / step).astype(int) * step
