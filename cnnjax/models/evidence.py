"""Which n-grams of a sentence spoke for the class that a network with max pooling gives it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NGram = tuple[str, float]
"""Its words, and what it adds to the logit of the class."""


def deciding_ngrams(
    ids: np.ndarray,
    vocabulary: Sequence[str],
    features: Mapping[str, Any],
    kernel: np.ndarray,
    classes: np.ndarray,
    count: int = 3,
) -> list[list[NGram]]:
    """The n-grams that add most to the logit of each sentence's class.

    After max pooling the logit of class k is a bias and a sum over filters, pooled value times
    weight.  A filter's share is credited to the window where it has its largest value; the shares
    of all filters whose windows have the same words are added up, also where one of them reaches
    further into padding.  The weight is taken against the mean of all classes': what is added to
    all logits alike decides nothing.  Windows wholly in padding are left out.

    Args:
        ids: int32[N, T], the sentences.
        vocabulary: the word of every id.
        features: the model's: "winners", window size -> int32[N, F], where in the row the window
            with a filter's largest value starts, -1 if it lies wholly in padding; and "pooled"
            float32[N, P], the values themselves, the filters of the first window size first.
        kernel: float32[P, K], the output layer's weights.
        classes: int[N], the class that is explained.
        count: how many n-grams at most.

    Returns:
        For every sentence at most ``count`` n-grams with a positive share, the largest first.
    """
    positions = np.concatenate([np.asarray(at) for at in features["winners"].values()], axis=1)
    windows = np.concatenate(
        [np.full(at.shape[1], window) for window, at in features["winners"].items()]
    )
    against = (kernel - kernel.mean(axis=1, keepdims=True))[:, classes].T
    shares = np.asarray(features["pooled"]) * against
    answers = []
    for row, at, share in zip(ids, positions, shares, strict=True):
        total: dict[tuple[int, ...], float] = {}  # by the positions of the words
        for start, window, value in zip(at.tolist(), windows.tolist(), share.tolist(), strict=True):
            if start >= 0:
                spot = tuple(
                    start + i for i in np.flatnonzero(row[start : start + window]).tolist()
                )
                total[spot] = total.get(spot, 0.0) + value
        best = sorted((spot for spot in total if total[spot] > 0), key=lambda spot: -total[spot])
        words = [" ".join(vocabulary[int(row[i])] for i in spot) for spot in best[:count]]
        answers.append([(ngram, total[spot]) for ngram, spot in zip(words, best, strict=False)])
    return answers
