"""Axes of a sweep's pictures: scales, limits, and where points stand beside each other."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from cnnjax.reports.statistics import as_text, summary_of

MOST_TICKS = 12  # more values of a numeric axis are not all labelled
_WIDE = 20  # values of a wider ratio are drawn on a logarithmic axis
_LONGEST_LABELS = 70  # characters that stand side by side below an axis
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, mod 1, fall evenly for any number of points


def is_number(value: Any) -> bool:
    """Whether a value has its place on a numeric axis; true and false have none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def numeric_axis(ax: Axes, values: Sequence[float]) -> None:
    """An x axis for numbers, logarithmic where the positive ones are far apart."""
    ordered = sorted(values)
    positive = [value for value in ordered if value > 0]
    if ordered[0] >= 0 and positive and positive[-1] > _WIDE * positive[0]:
        if ordered[0] > 0:
            ax.set_xscale("log")
        else:  # zero has its place left of the smallest
            ax.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        ax.xaxis.set_major_formatter("{x:g}")
    if len(ordered) <= MOST_TICKS:
        ax.set_xticks(ordered, [f"{value:g}" for value in ordered])
        ax.xaxis.set_minor_locator(NullLocator())
    low, high = scaled(ax, [ordered[0], ordered[-1]])
    margin = 0.05 * (high - low) or 0.5
    ax.set_xlim(*unscaled(ax, [low - margin, high + margin]))


def category_axis(ax: Axes, values: Sequence[Any]) -> None:
    """An x axis for values of any kind, in their order, at 0, 1, 2, ..."""
    names = [as_text(value) for value in values]
    ax.set_xticks(range(len(names)), names)
    if sum(len(name) + 2 for name in names) > _LONGEST_LABELS:
        for label in ax.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.6, len(names) - 0.4)


def error_axis(ax: Axes, samples: Sequence[Sequence[float]]) -> None:
    """A y axis with all points, and with their intervals as far as they leave points legible."""
    points = list(itertools.chain.from_iterable(samples))
    if not points:
        ax.set_ylim(0, 100)
        return
    low, high = min(points), max(points)
    if low > 0 and high > _WIDE * low:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set_ylim(low / 1.3, high * 1.6)
        return
    room = 0.5 * (high - low)
    pad = 0.12 * (high - low) or 0.1 * high or 0.5
    summaries = list(map(summary_of, samples))
    lows = [summary.low for summary in summaries if summary.low is not None]
    highs = [summary.high for summary in summaries if summary.high is not None]
    bottom = max(min([low, *lows]), low - room) - pad
    top = min(max([high, *highs]), high + room) + pad
    ax.set_ylim(bottom if bottom > 0 else -0.1 * pad, top)


def scaled(ax: Axes, values: Any) -> np.ndarray:
    """Values of the x axis -> positions in which it is even, whatever its scale."""
    return ax.xaxis.get_transform().transform(np.asarray(values, float))


def unscaled(ax: Axes, positions: Any) -> np.ndarray:
    """The inverse of :func:`scaled`."""
    return ax.xaxis.get_transform().inverted().transform(np.asarray(positions, float))


def jitter(count: int) -> np.ndarray:
    """Offsets for ``count`` points, about 1 wide, of mean 0, the same every time."""
    offsets = np.arange(count) * _GOLDEN % 1
    return offsets - offsets.mean() if count else offsets


def jitter_width(positions: np.ndarray) -> float:
    """A little of the axis, and never as much as to mix neighbours."""
    gaps = np.diff(np.sort(positions))
    return min(0.03 * gaps.sum(), 0.4 * gaps.min(initial=math.inf))
