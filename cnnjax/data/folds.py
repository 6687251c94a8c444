"""Cross-validation: all examples of a data set, divided anew into folds."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnnjax.data.dataset import DataSet, Split, stratified_parts, take
from cnnjax.errors import UserError

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


def fold_rows(labels: np.ndarray, fold: int, folds: int, seed: int) -> dict[str, np.ndarray]:
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


def pool(splits: Mapping[str, Split]) -> tuple[Split, dict[str, np.ndarray]]:
    """All examples, those of train, then validation, then test; and where each split's are.

    Returns:
        "inputs" [N, ...] and "labels" int32[N]; split -> int64[n].
    """
    names = [name for name in ("train", "validation", "test") if name in splits]
    ends = np.cumsum([len(splits[name]["labels"]) for name in names])
    rows = dict(zip(names, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    keys = ("inputs", "labels")
    return {key: np.concatenate([splits[name][key] for name in names]) for key in keys}, rows


def cross_validation(dataset: DataSet, fold: int, folds: int, seed: int) -> DataSet:
    """``dataset`` divided anew, with ``fold`` as its test split; see :func:`fold_rows`."""
    everything, _ = pool(dataset.splits)
    rows = fold_rows(everything["labels"], fold, folds, seed)
    return dataclasses.replace(
        dataset,
        splits={name: take(**everything, rows=chosen) for name, chosen in rows.items()},
        provenance={
            **dataset.provenance,
            "split": f"fold {fold} of {folds}, stratified, seed {seed}",
        },
    ).with_checksum()
