"""Networks held against a paper's: weights beside accuracy, as a table and as a picture."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cnnjax.files.durable import write_text
from cnnjax.reports import sweep_axes
from cnnjax.reports.statistics import Summary, compare, summary_of
from cnnjax.reports.sweep_tables import escape


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, what it is made of, and how often it is right (or wrong: see :class:`Quantity`).

    Attributes:
        name: as the paper has it.
        links: connections for one example, biases included.
        parameters: trained numbers.
        published: the paper's percentage, if it has one.
        measured: trial -> percentage; trials of the same name are paired.
    """

    name: str
    links: int
    parameters: int
    published: float | None
    measured: Mapping[Any, float]

    @property
    def summary(self) -> Summary:
        """Of the percentages."""
        return summary_of(list(self.measured.values()))


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What is measured in percent.

    Attributes:
        column: heading in the table.
        axis: label in the picture.
        better: the sign of a difference that is progress.
        digits: after the decimal point.
        scale: of the axis, as Matplotlib names it.
    """

    column: str
    axis: str
    better: str
    digits: int
    scale: str


CORRECT = Quantity("% correct", "correct on test images (%)", "positive", 1, "linear")
ERROR = Quantity("test error, %", "error on test images (%)", "negative", 2, "log")


def write_networks(
    folder: Path,
    networks: Sequence[Network],
    title: str,
    source: str,
    quantity: Quantity = CORRECT,
) -> list[Path]:
    """Write ``networks.md`` and ``networks.png``; returns the files.

    Args:
        folder: in which the files are written.
        networks: in the paper's order.
        title: of table and picture.
        source: of the published numbers.
        quantity: that was measured and published.
    """
    table, picture = folder / "networks.md", folder / "networks.png"
    write_text(table, markdown_table(networks, title, source, quantity))
    weights_figure(networks, title, source, quantity).savefig(picture, dpi=120)
    return [table, picture]


def markdown_table(
    networks: Sequence[Network], title: str, source: str, quantity: Quantity = CORRECT
) -> str:
    """A line for each network, compared with the one above it."""
    header = [
        "network", "links", "free parameters", f"{quantity.column} (mean ± sd)", "95 % CI", "n",
        "against the one above, points", escape(source),
    ]  # fmt: skip
    lines = [f"# {escape(title)}", "", line(header), "|-" + "|-:" * (len(header) - 1) + "|"]
    number = lambda value: "–" if value is None else f"{value:.{quantity.digits}f}"
    for above, network in zip([None, *networks], networks, strict=False):
        found = network.summary
        mean = number(found.mean)
        if found.sd is not None:
            mean += f" ± {number(found.sd)}"
        interval = "–" if found.low is None else f"{number(found.low)} – {number(found.high)}"
        cells = [
            escape(network.name), f"{network.links:,}", f"{network.parameters:,}", mean, interval,
            str(found.count),
            against(network.measured, above.measured, quantity.digits) if above else "–",
            number(network.published),
        ]  # fmt: skip
        lines.append(line(cells))
    notes = [
        "",
        "- sd is the sample's, the interval Student's t for the mean over n trials.",
        f"- Against the one above: mean difference ({quantity.better} is better) and p of a "
        "two-sided paired t-test over the seeds that both have.",
    ]
    return "\n".join([*lines, *notes]) + "\n"


def weights_figure(
    networks: Sequence[Network], title: str, source: str, quantity: Quantity = CORRECT
) -> Figure:
    """Percentages against free parameters: of every trial, on average, and published."""
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    ax = figure.subplots()
    for index, network in enumerate(networks):
        color, x, found = f"C{index}", network.parameters, network.summary
        ax.plot(
            x * 1.02 ** sweep_axes.jitter(found.count), list(network.measured.values()), "o",
            color=color, markersize=4, markeredgewidth=0, alpha=0.3,
        )  # fmt: skip
        if found.mean is not None:
            half = [found.high - found.mean] if found.high is not None else None
            ax.errorbar(
                [x], [found.mean], half, fmt="D", color=color, capsize=4, markersize=6,
                markeredgecolor="white", zorder=3,
                label=f"{network.name}: {found.mean:.{quantity.digits}f} %",
            )  # fmt: skip
        if network.published is not None:
            ax.plot(x, network.published, "*", color=color, markersize=12, markeredgecolor="0.2")
    ax.plot([], [], "o", color="0.5", markersize=4, alpha=0.5, label="trials")
    ax.plot([], [], "*", color="0.7", markersize=12, markeredgecolor="0.2", label=source)
    ax.set_xscale("log")
    ax.set_yscale(quantity.scale)
    if quantity.scale == "log":
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    counts = [network.parameters for network in networks]
    ax.set_xticks(counts, [f"{count:,}" for count in counts], rotation=90, fontsize=8)
    ax.set(xlabel="free parameters (logarithmic)", ylabel=quantity.axis)
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def against(ours: Mapping[Any, float], theirs: Mapping[Any, float], digits: int) -> str:
    """A cell: mean difference of the trials that both have, and its p."""
    found = compare(ours, theirs)
    if not found:
        return "–"
    p = ""
    if found.p is not None:
        p = " (p < 0.001)" if found.p < 0.001 else f" (p = {found.p:.3f})"
    return f"{round(found.difference, digits) + 0.0:+.{digits}f}{p}"
