"""Words as ids, in rows that are laid out as Kim's code lays them out.

A row is ``MARGIN`` zeros, the ids of the words, and zeros up to its end: at least ``MARGIN``.
With 4 zeros on both sides a window of 5 sees every word at each of its places.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.data.dataset import DataSet
from cnnjax.data.text import vocabulary as words
from cnnjax.data.text.cleaning import tokens
from cnnjax.errors import UserError

MARGIN = 4  # the largest of the paper's windows, less 1

_UNKNOWN_ID = 1


def encode(
    sentences: Sequence[str], vocabulary: Sequence[str], length: int = 0, cleaning: str = "kim"
) -> np.ndarray:
    """Rows of ids.

    Args:
        sentences: N texts; an empty one becomes a row of zeros.
        vocabulary: the word of every id, as :func:`cnnjax.data.text.build` gives it.
        length: of a row, at least; rows are longer if a sentence needs it.
        cleaning: the rule's name.

    Returns:
        int32[N, T], T the larger of ``length`` and the longest sentence with its two margins.
        Words that the vocabulary does not have are id 1.
    """
    return _encode([tokens(sentence, cleaning) for sentence in sentences], vocabulary, length)


def lengths(inputs: np.ndarray) -> np.ndarray:
    """How many words each row of int32[N, T] has: int32[N]."""
    return np.count_nonzero(inputs, axis=1).astype(np.int32)


def text_dataset(
    name: str,
    splits: Mapping[str, tuple[Sequence[str], np.ndarray]],
    classes: Sequence[str],
    cleaning: str,
    provenance: Mapping[str, Any],
) -> DataSet:
    """The data set of sentences in three splits, with the vocabulary of all of them.

    As in Kim's code every word of the corpus has an id, those of the test split too.

    Args:
        name: as it was asked for.
        splits: "train", "validation" and "test": the sentences and their labels int[N].
        classes: the K class names, in label order.
        cleaning: the rule's name; added to the provenance, so that new sentences are cleaned by it.
        provenance: as :class:`~cnnjax.data.DataSet` has it.

    Raises:
        UserError: fewer than two classes, or nowhere a word.
    """
    if len(classes) < 2:
        raise UserError(
            f"data set {name}: it has one class only ({', '.join(classes) or 'none'}); "
            f"a classification needs two"
        )
    cut = {
        split: [tokens(text, cleaning) for text in texts] for split, (texts, _) in splits.items()
    }
    everything = [sentence for sentences in cut.values() for sentence in sentences]
    vocabulary = words.build(everything)
    longest = max(map(len, everything), default=0)
    if not longest:
        raise UserError(f"data set {name}: there is no word in its {len(everything):,} sentences")
    return DataSet(
        name=name,
        splits={
            split: {
                "inputs": _encode(cut[split], vocabulary, longest + 2 * MARGIN),
                "labels": np.asarray(labels, np.int32),
            }
            for split, (_, labels) in splits.items()
        },
        classes=tuple(classes),
        provenance={**provenance, "cleaning": cleaning},
        vocabulary=vocabulary,
    )


def _encode(cut: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int) -> np.ndarray:
    ids = {word: i for i, word in enumerate(vocabulary)}
    longest = max(map(len, cut), default=0)
    rows = np.zeros((len(cut), max(length, longest + 2 * MARGIN)), np.int32)
    for row, sentence in zip(rows, cut, strict=True):
        row[MARGIN : MARGIN + len(sentence)] = [ids.get(word, _UNKNOWN_ID) for word in sentence]
    return rows
