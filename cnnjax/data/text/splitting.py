"""Splits of sentences, drawn where their source has none."""

from collections.abc import Mapping, Sequence

import numpy as np

from cnnjax.data.dataset import stratified_parts

Sentences = tuple[Sequence[str], np.ndarray]
"""N texts and their labels int[N]."""

_FRACTION = 0.1
_SPLIT_SEED = 2014


def three_splits(found: Mapping[str, Sentences]) -> tuple[dict[str, Sentences], str]:
    """Train, validation and test, and in words how they came about.

    Args:
        found: the source's own splits, or "undivided": all its sentences.  10 % of every class of
            these become the test split; where there is no validation split, 10 % of every class of
            the training split become it.  Both are drawn once and for all, with seed 2014.
    """
    splits, drawn = dict(found), []
    if "undivided" in splits:
        splits["test"], splits["train"] = _part(splits.pop("undivided"))
        drawn.append("test: 10 % of all")
    if "validation" not in splits:
        splits["validation"], splits["train"] = _part(splits["train"])
        drawn.append("validation: 10 % of train")
    how = f"{', '.join(drawn)}; stratified, seed {_SPLIT_SEED}" if drawn else "as published"
    return {split: splits[split] for split in ("train", "validation", "test")}, how


def _part(sentences: Sentences) -> tuple[Sentences, Sentences]:
    texts, labels = sentences
    parts = stratified_parts(labels, (_FRACTION,), _SPLIT_SEED)
    part, rest = (([texts[int(row)] for row in rows], labels[rows]) for rows in parts)
    return part, rest
