"""Ways to learn from few images, against their number: a table, and a picture with a line each."""

import dataclasses
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cnnjax.config import REPLICATES
from cnnjax.files.durable import write_text
from cnnjax.reports.networks import against, line
from cnnjax.reports.statistics import Summary, as_text, summary_of
from cnnjax.reports.sweep_tables import escape

_MARKERS = "osD^vPX*"
_A_CLASS = " a class"
_AS_GIVEN = "as configured"  # where a sweep's value is empty

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to learn, and how often it is right.

    Attributes:
        name: what the sweep says of it.
        panel: of the picture, where it has several: what kind of images.
        correct: number of training images -> seed -> % correct on test images.
    """

    name: str
    panel: str
    correct: Mapping[int, Mapping[int, float]]

    def at(self, images: int) -> Summary:
        """Of the percentages with so many training images."""
        return summary_of(list(self.correct.get(images, {}).values()))


def write_shots(
    folder: Path, rows: Sequence[Row], title: str, panels: str, reference: str
) -> list[Path]:
    """Write ``transfer.md`` and, where the number of images varies, ``transfer.png``; the files.

    Args:
        folder: in which the files are written.
        rows: of a sweep; "shots" in their configuration are training images a class, or None.
        title: of table and picture.
        panels: field of the configuration by whose values the picture is divided.
        reference: the name of the way that the others are compared with.
    """
    ways, ticks = ways_of(rows, panels), ticks_of(rows)
    if not ways:
        return []
    table, picture = folder / "transfer.md", folder / "transfer.png"
    write_text(table, markdown_table(ways, ticks, title, reference))
    if len(ticks) < 2:
        return [table]
    shots_figure(ways, ticks, title).savefig(picture, dpi=120)
    return [table, picture]


def ways_of(rows: Sequence[Row], panels: str) -> list[Way]:
    """The ways of a sweep, in its order, from the finished rows."""
    varied = _varied(rows, panels)
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row.get("trial", 0)):  # several processes wrote them
        if row["status"] == "finished":
            own = row["config"]
            key = _name(row, varied), own[panels]
            by_images = found.setdefault(key, {}).setdefault(row["train"]["count"], {})
            by_images[own["seed"]] = 100 * row["test"]["accuracy"]
    return [Way(name, panel, correct) for (name, panel), correct in found.items()]


def ticks_of(rows: Sequence[Row]) -> dict[int, str]:
    """Number of training images, in growing order -> how many a class that is, in words."""
    words = lambda shots: "all" if shots is None else f"{shots}{_A_CLASS}"
    found = {
        row["train"]["count"]: words(row["config"]["shots"])
        for row in rows
        if row["status"] == "finished"
    }
    return {images: found[images] for images in sorted(found)}


def markdown_table(
    ways: Sequence[Way], ticks: Mapping[int, str], title: str, reference: str
) -> str:
    """A line for each way, a column for each number of images."""
    several = len({way.panel for way in ways}) > 1
    compared = any(way.name == reference for way in ways)
    fewest = next(iter(ticks))
    header = [
        *["images"] * several, "setting", *ticks.values(),
        *[f"against {reference} with {ticks[fewest]}, points"] * compared,
    ]  # fmt: skip
    first = 1 + several
    lines = [line(header), "|" + "-|" * first + "-:|" * (len(header) - first)]
    for way in ways:
        others = {w.panel: w for w in ways if w.name == reference and w != way}
        theirs = others[way.panel].correct.get(fewest, {}) if way.panel in others else {}
        cells = [
            *[escape(way.panel)] * several, escape(way.name),
            *(_cell(way.at(images)) for images in ticks),
            *[against(way.correct.get(fewest, {}), theirs, 1)] * compared,
        ]  # fmt: skip
        lines.append(line(cells))
    seeds = sorted({way.at(images).count for way in ways for images in way.correct})
    notes = [
        f"- % correct on the test images: mean over {' or '.join(map(str, seeds))} seeds, each a "
        f"draw of training images, and Student's 95 % interval of the mean.",
    ]
    if compared:
        notes.append(
            f"- Against {reference}: mean difference (positive is better) and p of a two-sided "
            f"paired t-test over the seeds that both have."
        )
    return "\n".join([f"# {escape(title)}", "", *lines, "", *notes]) + "\n"


def shots_figure(ways: Sequence[Way], ticks: Mapping[int, str], title: str) -> Figure:
    """% correct against the number of training images: means, and 95 % intervals as bands."""
    panels = list(dict.fromkeys(way.panel for way in ways))
    names = list(dict.fromkeys(way.name for way in ways))
    width = 2.6 + 0.07 * max(map(len, names)) + 3.8 * len(panels)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, panel in zip(axes, panels, strict=True):
        for way in ways:
            if way.panel != panel:
                continue
            index = names.index(way.name)
            images = sorted(way.correct)
            found = [way.at(n) for n in images]
            ax.plot(
                images, [summary.mean for summary in found], f"{_MARKERS[index % 8]}-",
                color=f"C{index}", markersize=5, linewidth=1.4, label=way.name,
            )  # fmt: skip
            if all(summary.low is not None for summary in found):
                ends = [s.low for s in found], [s.high for s in found]
                ax.fill_between(images, *ends, color=f"C{index}", alpha=0.1, linewidth=0)
                for end in ends:  # bands that lie above each other are told apart by their edges
                    ax.plot(images, end, color=f"C{index}", linewidth=0.6, alpha=0.5)
        ax.set_xscale("log")
        ax.set_xticks(list(ticks), [text.removesuffix(_A_CLASS) for text in ticks.values()])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel="training images a class (logarithmic)")
        if len(panels) > 1:
            ax.set_title(f"{panel} images", fontsize=10)
        ax.grid(alpha=0.3)
    axes[0].set(ylabel="correct on test images (%)")
    figure.suptitle(title, fontsize=10, x=0.01, horizontalalignment="left")
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside right upper", fontsize=9,
        title="mean and 95 % CI", title_fontsize=9,
    )  # fmt: skip
    return figure


def _varied(rows: Sequence[Row], panels: str) -> set[str]:
    """What tells ways apart: the strategy, and what differs with the same number of images."""
    alike: dict[tuple, dict[str, set[Any]]] = {}
    everything = {path for row in rows for path in row["changes"]}
    for row in rows:
        own = row["config"]
        values = alike.setdefault((own["strategy"], own["shots"], own[panels]), {})
        for path in everything - set(REPLICATES):
            values.setdefault(path, set()).add(as_text(row["changes"].get(path)))
    found = {path for values in alike.values() for path, v in values.items() if len(v) > 1}
    one = len({row["config"]["strategy"] for row in rows}) == 1
    return found if one and found else found | {"strategy"}


def _name(row: Row, varied: Set[str]) -> str:
    """What of a row tells its way from others."""
    strategy = [row["config"]["strategy"]] if "strategy" in varied else []
    others = [
        f"{path}={as_text(value)}"
        for path, value in row["changes"].items()
        if path in varied - {"strategy"} and value != ""
    ]
    return ", ".join(strategy + others) or _AS_GIVEN


def _cell(found: Summary) -> str:
    if found.mean is None:
        return "–"
    interval = "" if found.low is None else f" ({found.low:.1f} – {found.high:.1f})"
    return f"{found.mean:.1f}{interval}"
