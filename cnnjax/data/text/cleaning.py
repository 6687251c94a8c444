"""What of a sentence is kept, and where it is cut into words.

Source: the code of Kim 2014, whose rules for MR give 18,765 word types.
"""

import dataclasses
import re

_CONTRACTION = re.compile(r"('s|'ve|n't|'re|'d|'ll)")
_MARK = re.compile(r"([,!()?])")


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """A rule by which sentences become words.

    Attributes:
        others: the characters that become spaces.
        cut: whether contractions and punctuation marks are cut off as words of their own (it was
            done already in the SST's files).
        lower: whether capital letters become small ones.
    """

    others: str
    cut: bool = True
    lower: bool = True


CLEANINGS = {
    "kim": Cleaning(r"[^A-Za-z0-9(),!?'`]"),
    "kim_trec": Cleaning(r"[^A-Za-z0-9(),!?'`]", lower=False),
    "kim_sst": Cleaning(r"[^A-Za-z0-9(),!?'`]", cut=False),
    # For sentences of any language; equal to "kim" where all is ASCII and without underscores.
    "unicode": Cleaning(r"[^\w(),!?'`]"),
}


def tokens(sentence: str, cleaning: str = "kim") -> list[str]:
    """The words of ``sentence``, by the rule of that name among :data:`CLEANINGS`.

    >>> tokens("It's (not) 're-made', isn't it?")
    ['it', "'s", '(', 'not', ')', "'re", 'made', "'", ',', 'is', "n't", 'it', '?']
    """
    rule = CLEANINGS[cleaning]
    text = re.sub(rule.others, " ", sentence)
    if rule.cut:
        text = _MARK.sub(r" \1 ", _CONTRACTION.sub(r" \1", text))
    return (text.lower() if rule.lower else text).split()
