"""What the words of a sentence say without their order: the baselines of sentence networks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from cnnjax.data import DataSet

_SMOOTHING = (0.1, 0.3, 1.0, 3.0)  # of naive Bayes
_INVERSE_DECAY = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # C of logistic regression


def baselines(dataset: DataSet) -> dict[str, float]:
    """Test accuracies of three classifiers that know no order of words.

    "majority": the most frequent class of the training split; "naive_bayes" (multinomial) and
    "logistic_regression": scikit-learn's, on which words a sentence has.  They see the training
    split; smoothing and weight decay are those of the best validation accuracy (of equals the
    stronger one).

    Args:
        dataset: of sentences.

    Returns:
        name -> share of right answers on the test split.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB

    words = {
        split: bag_of_words(part["inputs"], len(dataset.vocabulary))
        for split, part in dataset.splits.items()
    }
    labels = {split: part["labels"] for split, part in dataset.splits.items()}
    majority = np.bincount(labels["train"]).argmax()
    logistic = lambda c: LogisticRegression(C=c, max_iter=1000)
    return {
        "majority": float((labels["test"] == majority).mean()),
        "naive_bayes": _best(lambda a: MultinomialNB(alpha=a), _SMOOTHING[::-1], words, labels),
        "logistic_regression": _best(logistic, _INVERSE_DECAY, words, labels),
    }


def bag_of_words(inputs: np.ndarray, size: int) -> sparse.csr_matrix:
    """Which words each sentence has: int32[N, T] ids -> float64[N, size] of zeros and ones."""
    rows, columns = np.nonzero(inputs)
    ones = np.ones(len(rows))
    matrix = sparse.csr_matrix((ones, (rows, inputs[rows, columns])), (len(inputs), size))
    matrix.data[:] = 1  # a word that a sentence has twice was added up
    return matrix


def _best(
    make: Callable[[float], Any],
    values: tuple[float, ...],
    words: dict[str, sparse.csr_matrix],
    labels: dict[str, np.ndarray],
) -> float:
    """Test accuracy of the first of the classifiers with the best validation accuracy."""
    fitted = [make(value).fit(words["train"], labels["train"]) for value in values]
    best = max(fitted, key=lambda model: model.score(words["validation"], labels["validation"]))
    return float(best.score(words["test"], labels["test"]))
