"""How windows (kernels, pools) slide over the spatial axes: one vocabulary for all operations."""

import operator
from collections.abc import Sequence
from numbers import Integral
from typing import Any

Padding = str | int | Sequence[tuple[int, int]]


def per_axis(value: int | Sequence[int], rank: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """``value`` once per spatial axis: an int is repeated, a sequence must have ``rank`` entries.

    NumPy's integers are integers, too.  Raises ValueError, naming ``name``, for another type or
    length or an entry below ``minimum``.
    """
    entries = (value,) * rank if isinstance(value, int | Integral) else value
    try:
        values = tuple(map(operator.index, entries))
    except TypeError:
        values = None
    if values is None or len(values) != rank or any(v < minimum for v in values):
        raise ValueError(
            f"{name} is {value!r}; it must be an integer of at least {minimum}, or {rank} of them"
        )
    return values


def check_at_least_one(value: int, name: str) -> None:
    """Raise ValueError, naming ``name``, for anything but an integer of at least 1."""
    if not isinstance(value, int | Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least 1")


def pad_widths(
    padding: Padding,
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> tuple[tuple[int, int], ...]:
    """The (before, after) padding of every spatial axis.

    ``"valid"``: none.  ``"same"``: ceil(size / stride) outputs, the odd element after (XLA's
    and TensorFlow's rule).  An int: that many on both sides of every axis.  Otherwise a
    (before, after) pair per axis.  Raises ValueError for anything else, negative widths included.
    """
    rank = len(sizes)
    dilation = dilation or (1,) * rank
    if isinstance(padding, str) and padding == "same":
        totals = [
            max((-(-n // s) - 1) * s + (w - 1) * d + 1 - n, 0)
            for n, w, s, d in zip(sizes, window, strides, dilation, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, str) and padding == "valid":
        padding = 0
    try:
        pairs: Any = ((padding, padding),) * rank if isinstance(padding, Integral) else padding
        pads = tuple((operator.index(before), operator.index(after)) for before, after in pairs)
    except (TypeError, ValueError):
        pads = ()
    if len(pads) != rank or any(width < 0 for pair in pads for width in pair):
        raise ValueError(
            f"padding is {padding!r}; it must be 'valid', 'same', an integer of at least 0, "
            f"or {rank} (before, after) pair(s) of them"
        )
    return pads


def check_fits(
    sizes: Sequence[int], window: Sequence[int], pads: Sequence[tuple[int, int]], name: str
) -> None:
    """Raise ValueError where a window is larger than the padded axis it slides over."""
    padded = [n + before + after for n, (before, after) in zip(sizes, pads, strict=True)]
    if any(w > n for w, n in zip(window, padded, strict=True)):
        raise ValueError(
            f"{name} spans {tuple(window)} but the padded input is only {tuple(padded)}: "
            f"the input is too small, or the {name} too large"
        )
