"""All examples of a data set, divided anew as a configuration says; cross-validation.

A division is a function ``(config, labels int[N] of all examples, splits) -> rows``.  An experiment
may have its own; the one of all others is :func:`cross_validation`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnjax.data.dataset import SPLITS, DataSet, Split, stratified_parts, take
from cnnjax.data.images import ImageFiles
from cnnjax.errors import UserError

Rows = dict[str, np.ndarray]
"""Which of all examples each split has: split -> int64[n]."""

Division = Callable[[Any, np.ndarray, Rows], Rows | None]
"""``(config, labels int[N] of all examples, splits) -> rows``: ``splits`` is the data set's own
division, which None leaves as it is.

Configurations that differ only in seed and fold have equally many training rows: one program
trains them.
"""

_TRAIN_FRACTION = 0.9  # of what is not the fold itself; the rest is its development split


def stratified_folds(labels: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Disjoint index arrays that together are all examples, one per fold.

    Sizes, and the share of every class in them, differ by one example at most.  Like
    :func:`~cnnjax.data.dataset.stratified_parts`, a function of ``labels``, ``folds`` and ``seed``
    alone.

    Args:
        labels: int[N].
        folds: how many, 2 <= folds <= N.
        seed: of the draw.

    Returns:
        Sorted int64[n] index arrays.

    Raises:
        UserError: more folds than examples, or fewer than two.
    """
    if not 2 <= folds <= len(labels):
        raise UserError(
            f"folds is {folds}; it must be at least 2 and at most {len(labels):,}, the number of "
            f"examples"
        )
    random = np.random.RandomState(seed)
    # Dealt like cards, one class after the other.
    deck = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    return [np.sort(np.concatenate(deck)[first::folds]) for first in range(folds)]


def fold_rows(labels: np.ndarray, fold: int, folds: int, seed: int) -> Rows:
    """The rows of each split where ``fold`` is the test split: split -> sorted int64[n].

    Nine tenths of the others are the training split, equally large for every fold, so that all can
    be trained by one program; what is left is the validation split.  Both are stratified.

    Raises:
        UserError: ``fold`` is none of 0 .. ``folds`` - 1, or ``folds`` does not fit the data.
    """
    parts = stratified_folds(labels, folds, seed)
    if not 0 <= fold < folds:
        raise UserError(f"fold is {fold}; of {folds} folds it must be one of 0 .. {folds - 1}")
    others = np.sort(np.concatenate(parts[:fold] + parts[fold + 1 :]))
    count = int(_TRAIN_FRACTION * (len(labels) - max(map(len, parts))))
    train, validation = stratified_parts(labels[others], (count / len(others),), seed)
    return {"train": others[train], "validation": others[validation], "test": parts[fold]}


def few_shots(
    labels: np.ndarray, rows: np.ndarray, shots: int, seed: int, dataset: str
) -> np.ndarray:
    """``shots`` of ``rows`` of every class, drawn; those of fewer shots are among those of more.

    Args:
        labels: int[N] of all examples.
        rows: int[n], to draw from.
        shots: how many of each class.
        seed: of the draw.
        dataset: its name, for the message.

    Returns:
        Sorted int64[K * shots].

    Raises:
        UserError: a class with fewer.
    """
    random, drawn = np.random.RandomState(seed), []
    for label in np.unique(labels):
        members = rows[labels[rows] == label]
        if len(members) < shots:
            raise UserError(
                f"config.shots={shots}: of class {label} (counted from 0) {dataset} has only "
                f"{len(members)} training images"
            )
        drawn.append(random.permutation(members)[:shots])
    return np.sort(np.concatenate(drawn))


def held_out(splits: Rows, validation: int) -> np.ndarray:
    """The rows int64[n] that are not for testing, of which ``validation`` are to be held out.

    Raises:
        UserError: that leaves nothing to train on.
    """
    learning = np.concatenate([splits["train"], splits["validation"]])
    if validation >= len(learning):
        raise UserError(
            f"config.validation={validation}: leaves nothing to train on of the "
            f"{len(learning):,} images that are not for testing"
        )
    return learning


def pool(splits: Mapping[str, Split]) -> tuple[Split, Rows]:
    """All examples, those of train, then validation, then test; and where each split's are.

    Returns:
        "inputs" [N, ...] and "labels" int32[N]; split -> int64[n].
    """
    return {key: _joined(splits, key) for key in ("inputs", "labels")}, _own_rows(splits)


def cross_validation(config: Any, labels: np.ndarray, splits: Rows) -> Rows | None:
    """The division by ``config``'s ``fold``, ``folds`` and ``fold_seed``, if it has a fold.

    Raises:
        UserError: a fold that does not exist.
    """
    if getattr(config, "fold", None) is None:
        return None
    return fold_rows(labels, config.fold, config.folds, config.fold_seed)


def divide(dataset: DataSet, config: Any, division: Division = cross_validation) -> DataSet:
    """``dataset`` with the splits that ``config`` has by ``division``.

    Raises:
        UserError: a configuration that does not fit the data.
    """
    rows = division(config, _joined(dataset.splits, "labels"), _own_rows(dataset.splits))
    if rows is None:
        return dataset
    everything, _ = pool(dataset.splits)
    how = f"divided anew by {division.__module__}.{division.__qualname__}"
    return dataclasses.replace(
        dataset,
        splits={name: take(**everything, rows=chosen) for name, chosen in rows.items()},
        provenance={**dataset.provenance, "split": how},
    ).with_checksum()


def _own_rows(splits: Mapping[str, Split]) -> Rows:
    names = [name for name in SPLITS if name in splits]
    ends = np.cumsum([len(splits[name]["labels"]) for name in names])
    return dict(zip(names, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))


def _joined(splits: Mapping[str, Split], key: str) -> Any:
    first, *others = [splits[name][key] for name in SPLITS if name in splits]
    if isinstance(first, ImageFiles):
        return first.joined(others)
    return np.concatenate([first, *others])
