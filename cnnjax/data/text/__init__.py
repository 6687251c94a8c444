"""Sentences -> rows of word ids: cleaning, vocabulary, encoding."""

from cnnjax.data.text.cleaning import CLEANINGS, tokens
from cnnjax.data.text.encoding import MARGIN, encode, lengths, text_dataset
from cnnjax.data.text.splitting import three_splits
from cnnjax.data.text.vocabulary import PADDING, UNKNOWN, build

__all__ = [
    "CLEANINGS",
    "MARGIN",
    "PADDING",
    "UNKNOWN",
    "build",
    "encode",
    "lengths",
    "text_dataset",
    "three_splits",
    "tokens",
]
