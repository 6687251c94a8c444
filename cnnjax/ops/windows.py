"""How windows (kernels, pools) slide over the spatial axes: one vocabulary for all operations."""

from collections.abc import Sequence

Padding = str | int | Sequence[tuple[int, int]]


def per_axis(value: int | Sequence[int], rank: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """``value`` once per spatial axis: an int is repeated, a sequence must have ``rank`` entries.

    Raises ValueError, naming ``name``, for another length or an entry below ``minimum``.
    """
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank or any(v < minimum for v in values):
        raise ValueError(
            f"{name} is {value!r}; it must be an integer of at least {minimum}, or {rank} of them"
        )
    return values


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
    (before, after) pair per axis.
    """
    rank = len(sizes)
    dilation = dilation or (1,) * rank
    if padding == "valid":
        return ((0, 0),) * rank
    if padding == "same":
        totals = [
            max((-(-n // s) - 1) * s + (w - 1) * d + 1 - n, 0)
            for n, w, s, d in zip(sizes, window, strides, dilation, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    if isinstance(padding, int) and padding >= 0:
        return ((padding, padding),) * rank
    if not isinstance(padding, str | int) and len(padding) == rank:
        return tuple((int(before), int(after)) for before, after in padding)
    raise ValueError(
        f"padding is {padding!r}; it must be 'valid', 'same', an integer of at least 0, "
        f"or {rank} (before, after) pairs"
    )


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
