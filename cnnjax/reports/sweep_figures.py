"""The pictures of a sweep: test error along every axis, or over the trials of one setting."""

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnnjax.reports import sweep_axes
from cnnjax.reports.statistics import Group, Summary, SweepResults, as_text, summary_of

_MOST_LINES = 10  # as many as there are colours that can be told apart
_LABEL = "test error (%)"


def figures(results: SweepResults) -> dict[str, Figure]:
    """All pictures of a sweep, by file name."""
    varied = [path for path, values in results.axes.items() if len(values) > 1]
    if not varied:
        return {"trials.png": trials_figure(results)}
    return {f"axis_{path.replace('.', '_')}.png": axis_figure(results, path) for path in varied}


@dataclasses.dataclass(frozen=True)
class _Line:
    """What is drawn in one colour: for every value of the axis, errors in % and lost trials."""

    label: str | None
    color: str
    samples: Sequence[Sequence[float]]
    diverged: Sequence[int]

    @property
    def summaries(self) -> list[Summary]:
        return [summary_of(sample) for sample in self.samples]


def axis_figure(results: SweepResults, axis: str) -> Figure:
    """Test error over the values of one axis: trials as points, means, 95 % intervals.

    The other axes give one line per combination of their values.  Where there are too many, one
    line shows the mean over them; then a point is the mean of one setting.
    """
    values = results.axes[axis]
    others = [path for path in results.axes if path != axis and len(results.axes[path]) > 1]
    combined: dict[tuple, list[Group]] = {}
    for setting in results.settings:
        combined.setdefault(tuple(setting.values[path] for path in others), []).append(setting)
    averaged = len(combined) > _MOST_LINES
    if averaged:
        lines = [_averaged(results.settings, axis, values)]
    else:
        lines = [
            _line(settings, axis, values, ", ".join(map(as_text, combination)), f"C{index}")
            for index, (combination, settings) in enumerate(combined.items())
        ]

    figure = Figure(figsize=(8.2 if len(lines) > 1 else 6.4, 4.2), layout="constrained")
    ax = figure.subplots()
    sweep_axes.error_axis(ax, [sample for line in lines for sample in line.samples])
    if all(map(sweep_axes.is_number, values)):
        _draw_numeric(ax, values, lines)
    else:
        _draw_categories(ax, values, lines)
    ax.set(xlabel=axis, ylabel=_LABEL)
    ax.grid(alpha=0.3)
    title = "trials, mean and 95 % interval"
    if averaged and max(len(sample) for sample in lines[0].samples) < 2:
        title = f"one point for every setting (also varied: {', '.join(others)})"
    elif averaged:
        title = (
            f"averaged over {len(combined)} combinations of {', '.join(others)} "
            f"(points: means of settings; interval: 95 % over settings)"
        )
    ax.set_title(textwrap.fill(f"{results.experiment}: {title}", 76), fontsize=10)
    _add_legend(figure, ax, lines, ",\n".join(others))
    return figure


def _line(
    settings: Sequence[Group], axis: str, values: Sequence[Any], label: str, color: str
) -> _Line:
    """The trials of settings that differ on the axis alone."""
    by_value = {setting.values[axis]: setting for setting in settings}
    found = [by_value.get(value) for value in values]
    return _Line(
        label or None,
        color,
        [list(setting.measured("test", "error").values()) if setting else [] for setting in found],
        [setting.count("diverged") if setting else 0 for setting in found],
    )


def _averaged(settings: Sequence[Group], axis: str, values: Sequence[Any]) -> _Line:
    """The means of all settings."""
    by_value = [[s for s in settings if s.values[axis] == value] for value in values]
    return _Line(
        None,
        "C0",
        [[s.error.mean for s in found if s.error.mean is not None] for found in by_value],
        [sum(s.count("diverged") for s in found) for found in by_value],
    )


def _draw_numeric(ax: Axes, values: Sequence[float], lines: Sequence[_Line]) -> None:
    """Means joined by a line, their intervals as a band."""
    sweep_axes.numeric_axis(ax, values)
    positions = sweep_axes.scaled(ax, values)
    width = sweep_axes.jitter_width(positions)
    bottom = ax.get_ylim()[0]
    for line in lines:
        _draw_trials(ax, positions, width, line)
        every = sorted(zip(values, line.summaries, strict=True), key=lambda pair: pair[0])
        # A summary is Any where the numbers asked of it are known to be there.
        found: list[tuple[float, Any]] = [(value, s) for value, s in every if s.count]
        known = [(value, summary) for value, summary in found if summary.low is not None]
        # A line through a random search would only zigzag.
        joined = known or len(found) <= sweep_axes.MOST_TICKS
        ax.plot(
            [value for value, _ in found], [summary.mean for _, summary in found],
            "o-" if joined else "o", color=line.color, label=line.label, markersize=5,
        )  # fmt: skip
        if len(known) == 1:  # a band has no width there
            _error_bars(ax, known, line.color)
        else:
            ax.fill_between(
                [value for value, _ in known],
                [max(summary.low, bottom) for _, summary in known],
                [summary.high for _, summary in known],
                color=line.color, alpha=0.15 if len(lines) <= 3 else 0.07, linewidth=0,
            )  # fmt: skip


def _draw_categories(ax: Axes, values: Sequence[Any], lines: Sequence[_Line]) -> None:
    """Means as diamonds, their intervals as error bars; lines side by side."""
    sweep_axes.category_axis(ax, values)
    width = 0.7 / len(lines)
    for index, line in enumerate(lines):
        positions = np.arange(len(values)) + width * (index - (len(lines) - 1) / 2)
        _draw_trials(ax, positions, min(0.7 * width, 0.3), line)
        every = zip(positions, line.summaries, strict=True)
        found: list[tuple[float, Any]] = [(x, s) for x, s in every if s.count]
        ax.plot(
            [x for x, _ in found], [summary.mean for _, summary in found], "D",
            color=line.color, label=line.label, markersize=6, zorder=3,
        )  # fmt: skip
        _error_bars(
            ax, [(x, summary) for x, summary in found if summary.sd is not None], line.color
        )


def _draw_trials(ax: Axes, positions: np.ndarray, width: float, line: _Line) -> None:
    """Points beside each other at every position (of the even axis); crosses for the diverged."""
    for position, sample, diverged in zip(positions, line.samples, line.diverged, strict=True):
        x = sweep_axes.unscaled(ax, position + width * sweep_axes.jitter(len(sample)))
        ax.plot(
            x, sample, "o", color=line.color, markersize=4, markeredgewidth=0,
            alpha=max(0.15, min(0.5, 15 / max(len(sample), 1))),
        )  # fmt: skip
        x = sweep_axes.unscaled(ax, position + width * sweep_axes.jitter(diverged))
        _mark_diverged(ax, x, line.color)


def _error_bars(ax: Axes, found: Sequence[tuple[float, Any]], color: str) -> None:
    ax.errorbar(
        [x for x, _ in found], [summary.mean for _, summary in found],
        [summary.high - summary.mean for _, summary in found],
        fmt="none", ecolor=color, capsize=4,
    )  # fmt: skip


def _mark_diverged(ax: Axes, x: Sequence[float] | np.ndarray, color: str) -> None:
    """Crosses at the top edge, whatever the limits."""
    ax.plot(
        x, np.full(len(x), 0.975), "x", color=color, markersize=6, zorder=3,
        transform=ax.get_xaxis_transform(),
    )  # fmt: skip


def _add_legend(figure: Figure, ax: Axes, lines: Sequence[_Line], title: str) -> None:
    diverged = sum(sum(line.diverged) for line in lines)
    if diverged:
        ax.plot([], [], "x", color="0.3", label=f"diverged ({diverged})")
    if len(lines) > 1:
        figure.legend(loc="outside right upper", title=title, fontsize=9, title_fontsize=9)
    elif diverged:
        ax.legend(fontsize=9)


def trials_figure(results: SweepResults) -> Figure:
    """Test error of all trials of a sweep that varies seeds and folds only, and its histogram."""
    measured = {
        results.settings[0].replicates[key].number: error
        for key, error in results.settings[0].measured("test", "error").items()
    }
    diverged = [trial.number for trial in results.trials if trial.status == "diverged"]
    error = summary_of(list(measured.values()))
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    ax, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    sweep_axes.error_axis(ax, [list(measured.values())])
    ax.plot(measured.keys(), measured.values(), "o", markersize=5, markeredgewidth=0, alpha=0.5)
    _mark_diverged(ax, diverged, "C3")
    if measured:
        bins = min(30, max(5, round(2 * math.sqrt(error.count))))
        histogram.hist(measured.values(), bins=bins, orientation="horizontal", alpha=0.6)
    for one in (ax, histogram):
        if error.mean is not None:
            one.axhline(error.mean, color="C0", linewidth=1.2)
        if error.low is not None:
            one.axhspan(error.low, error.high, color="C0", alpha=0.15, linewidth=0)
        one.grid(alpha=0.3)
        one.xaxis.set_major_locator(MaxNLocator(8 if one is ax else 3, integer=True, min_n_ticks=1))
    ax.set(xlabel="trial", ylabel=_LABEL, xlim=(-0.5, results.trials[-1].number + 0.5))
    histogram.set(xlabel="number of trials")
    lost = f"; {len(diverged)} diverged (×)" if diverged else ""
    figure.suptitle(f"{results.experiment}: {_in_words(error)}{lost}", fontsize=10)
    return figure


def _in_words(error: Summary) -> str:
    if error.mean is None:
        return "no trial has finished"
    spread = "" if error.sd is None else f" ± {error.sd:.2f}"
    interval = "" if error.low is None else f", 95 % CI {error.low:.2f} – {error.high:.2f}"
    return f"{error.mean:.2f}{spread} %{interval}, n = {error.count}"
