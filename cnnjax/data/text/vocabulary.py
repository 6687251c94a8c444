"""The word of every id."""

import collections
from collections.abc import Iterable

PADDING, UNKNOWN = "<padding>", "<unknown>"
"""The marks of ids 0 and 1.  No cleaning leaves angle brackets, so no word is one of them."""


def build(sentences: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The vocabulary of sentences that are cut into words.

    Args:
        sentences: the words of each.

    Returns:
        The word of every id: the two marks, then the words by falling count; equally frequent ones
        in the order of their characters' code points.
    """
    counts = collections.Counter(word for sentence in sentences for word in sentence)
    return (PADDING, UNKNOWN, *sorted(counts, key=lambda word: (-counts[word], word)))
