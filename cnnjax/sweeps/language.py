"""The text of ``--sweep`` flags as a sweep.

    --sweep=hparams.learning_rate=0.01,0.1      values, separated by commas
    --sweep=seed=0:8   --sweep=seed=0:8:2,100   integers from start to before stop [by step]
    --sweep=no_dropout                          a named ablation of the experiment
    --sweep='zip(model=lenet1,lenet5; epochs=20,30)'
    --sweep='chain(no_dropout; seed=0:3)'       also product(...); each may stand in another
    --sweep='sample(20, 0; hparams.dropout=0,0.2,0.5; seed=0:100)'
                                                20 trials of the product, drawn with seed 0

Several flags are one product.  Brackets keep a value together: ``maps=(32,64),(8,16)`` has two.
Values stay text, which ``cnnjax.config.override`` parses; only ranges are integers already.
"""

import contextlib
import difflib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cnnjax.errors import UserError
from cnnjax.sweeps.axes import Sweep, axis, chain, product, subsample, zipped

FUNCTIONS: Mapping[str, Callable[..., Sweep]] = {"product": product, "zip": zipped, "chain": chain}

_FORMS = (
    "PATH=V1,V2,..., PATH=START:STOP[:STEP], the name of an ablation, or "
    "product(X; Y), zip(X; Y), chain(X; Y), sample(COUNT, SEED; X; Y)"
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_LIKE_RANGE = re.compile(r"(?=.*:)[-+.:\d][-+.:\deE]*")  # numbers and at least one colon
_RANGE = re.compile(r"([-+]?\d+):([-+]?\d+)(?::([-+]?\d+))?")


def parse(texts: Sequence[str], names: Mapping[str, Sweep], *, flag: str = "sweep") -> Sweep:
    """The product of the sweeps that ``texts`` describe.

    Args:
        texts: one for each ``--sweep`` flag; none of them is one trial without changes.
        names: the experiment's ablations.
        flag: whose texts they are, for messages.

    Raises:
        UserError: a text that is no sweep; the message quotes it.
    """
    sweeps = []
    for text in texts:
        with _quoting(flag, text):
            sweeps.append(_sweep(text, names))
    with _quoting(flag, *texts):
        return product(*sweeps)


@contextlib.contextmanager
def _quoting(flag: str, *texts: str) -> Iterator[None]:
    """A mistake is told after the flags it is in."""
    try:
        yield
    except UserError as error:
        flags = " ".join(f"--{flag}={' '.join(text.split())}" for text in texts)
        raise UserError(f"{flags}: {error}") from None


def _sweep(text: str, names: Mapping[str, Sweep]) -> Sweep:
    text = text.strip()
    if text in names:
        return names[text]
    if not text:
        raise UserError(f"nothing stands where a sweep should; write {_FORMS}")
    if len(_split(text, ";")) > 1:
        raise UserError(
            f"{text!r} has a ';' outside of brackets; combine sweeps by product(X; Y), "
            "zip(X; Y) or chain(X; Y), or in several flags"
        )
    parts = re.match(r"([^=(]*)(.?)", text, re.DOTALL)
    assert parts is not None  # both may be empty
    head, mark = parts.groups()
    if mark == "=":
        path = head.strip().removeprefix("config.")
        if not path:
            raise UserError(f"no path stands before '=' in {text!r}; write PATH=V1,V2,...")
        return axis(path, _values(path, text[len(head) + 1 :]))
    if mark == "(":
        end = _depths(text).index(0, len(head))
        if rest := text[end + 1 :]:
            raise UserError(f"{rest!r} follows the ')' of {head.strip()}(...); leave it out")
        return _call(head.strip(), _split(text[len(head) + 1 : end], ";"), names)
    raise UserError(_unknown_name(text, names))


def _call(function: str, parts: list[str], names: Mapping[str, Sweep]) -> Sweep:
    """``function(part; part; ...)``."""
    if function == "sample":
        count, seed = _count_and_seed(parts[0])
        if len(parts) == 1:
            raise UserError("sample has no sweep to draw from; write sample(COUNT, SEED; X; Y)")
        return subsample(product(*(_sweep(part, names) for part in parts[1:])), count, seed)
    if function not in FUNCTIONS:
        raise UserError(
            f"{function!r} is not a function of sweeps; valid: {', '.join([*FUNCTIONS, 'sample'])}"
        )
    return FUNCTIONS[function](*(_sweep(part, names) for part in parts))


def _count_and_seed(text: str) -> tuple[int, int]:
    try:
        count, seed = map(int, text.split(","))
    except ValueError:
        raise UserError(
            f"sample begins with {text.strip()!r}; it must be COUNT, SEED, two integers, "
            "as in sample(20, 0; X; Y)"
        ) from None
    return count, seed


def _values(path: str, text: str) -> Iterable[str | int]:
    """The values of a comma-separated list, ranges filled in."""
    items = [item.strip() for item in _split(text, ",")]
    if "" in items:
        raise UserError(
            f"{path} has an empty value in {f'{path}={text}'!r}; write {path}=V1,V2,..."
        )
    return itertools.chain.from_iterable(map(_range, items))


def _range(item: str) -> Iterable[str | int]:
    """The integers of ``START:STOP[:STEP]``; other values, also ``tfds:NAME``, are themselves."""
    if not _LIKE_RANGE.fullmatch(item):
        return [item]
    if not (match := _RANGE.fullmatch(item)):
        raise UserError(f"{item!r} is no range; it must be START:STOP or START:STOP:STEP, integers")
    start, stop, step = (int(number or 1) for number in match.groups())
    if step == 0:
        raise UserError(f"the range {item!r} has step 0; it must be 1, 2, ... or negative")
    numbers = range(start, stop, step)
    if not numbers:
        raise UserError(
            f"the range {item!r} is empty: it starts at {start} and ends before {stop}, "
            f"in steps of {step}; the stop must lie beyond the start"
        )
    return numbers


def _split(text: str, separator: str) -> list[str]:
    """``text`` cut at each ``separator`` that is not inside brackets."""
    cuts = [
        i
        for i, (character, depth) in enumerate(zip(text, _depths(text), strict=True))
        if character == separator and depth == 0
    ]
    return [text[i + 1 : j] for i, j in itertools.pairwise([-1, *cuts, len(text)])]


def _depths(text: str) -> list[int]:
    """How many brackets are open after each character."""
    expected, depths = [], []
    for character in text:
        if character in _CLOSING:
            expected.append(_CLOSING[character])
        elif character in _CLOSING.values() and (not expected or expected.pop() != character):
            raise UserError(f"{text!r} has a {character!r} that closes nothing; leave it out")
        depths.append(len(expected))
    if expected:
        raise UserError(f"{text!r} has no {expected[-1]!r} to close a bracket; add it")
    return depths


def _unknown_name(text: str, names: Mapping[str, Sweep]) -> str:
    close = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    valid = f"valid names: {', '.join(names)}" if names else "this experiment names none"
    return f"{text!r} is neither PATH=V1,V2,... nor the name of an ablation; {hint}{valid}"
