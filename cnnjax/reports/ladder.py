"""A ladder: changes made one after the other, each rung held against the one before it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cnnjax.files.durable import write_text
from cnnjax.reports import sweep_axes
from cnnjax.reports.networks import against, line
from cnnjax.reports.statistics import summary_of
from cnnjax.reports.sweep_tables import escape

_MARKERS = "*Pxs"  # of the sources' numbers


@dataclasses.dataclass(frozen=True)
class Rung:
    """A setting that has all changes of the rungs before it, and one more.

    Attributes:
        name: of what it changes.
        epochs: passes over the training images.
        test, train: trial -> error in percent; trials of the same name are paired.
        published: source -> error on test images in percent.
    """

    name: str
    epochs: int
    test: Mapping[Any, float]
    train: Mapping[Any, float]
    published: Mapping[str, float]


def write_ladder(folder: Path, rungs: Sequence[Rung], title: str) -> list[Path]:
    """Write ``ladder.md`` and ``ladder.png``; returns the files."""
    table, picture = folder / "ladder.md", folder / "ladder.png"
    notes = [
        "sd is the sample's, the interval Student's t for the mean over n trials.",
        "Against the rung above: mean difference (negative is better) and p of a two-sided paired "
        "t-test over the trials that both have.",
    ]
    content = [f"# {escape(title)}", "", markdown_table(rungs), "", *(f"- {n}" for n in notes)]
    write_text(table, "\n".join(content) + "\n")
    ladder_figure(rungs, title).savefig(picture, dpi=120)
    return [table, picture]


def markdown_table(rungs: Sequence[Rung]) -> str:
    """A line for each rung, compared with the one above it."""
    sources = _sources(rungs)
    header = [
        "rung", "passes", "training error, %", "test error, % (mean ± sd)", "95 % CI", "n",
        "against the rung above, points", *map(escape, sources),
    ]  # fmt: skip
    lines = [line(header), "|-" + "|-:" * (len(header) - 1) + "|"]
    for above, rung in zip([None, *rungs], rungs, strict=False):
        found, learned = summary_of(list(rung.test.values())), summary_of(list(rung.train.values()))
        mean = "–" if found.mean is None else f"{found.mean:.2f}"
        if found.sd is not None:
            mean += f" ± {found.sd:.2f}"
        cells = [
            escape(rung.name), str(rung.epochs),
            "–" if learned.mean is None else f"{learned.mean:.2f}", mean,
            "–" if found.low is None else f"{found.low:.2f} – {found.high:.2f}",
            str(found.count), against(rung.test, above.test, 2) if above else "–",
            *(f"{rung.published[s]:g}" if s in rung.published else "–" for s in sources),
        ]  # fmt: skip
        lines.append(line(cells))
    return "\n".join(lines)


def ladder_figure(rungs: Sequence[Rung], title: str) -> Figure:
    """Test errors of every trial, on average and published, and training errors, rung by rung."""
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    ax = figure.subplots()
    for place, rung in enumerate(rungs):
        found, learned = summary_of(list(rung.test.values())), summary_of(list(rung.train.values()))
        ax.plot(
            place + 0.1 * sweep_axes.jitter(found.count), list(rung.test.values()), "o",
            color="C0", markersize=4, markeredgewidth=0, alpha=0.4,
        )  # fmt: skip
        if found.mean is not None:
            half = [found.high - found.mean] if found.high is not None else None
            ax.errorbar([place], [found.mean], half, fmt="D", color="C0", capsize=4, zorder=3)
        if learned.mean is not None:
            ax.plot(place, learned.mean, "v", color="C1", markersize=6)
        for source, marker in zip(_sources(rungs), _MARKERS, strict=False):
            if source in rung.published:
                ax.plot(place, rung.published[source], marker, color="0.4", markersize=9)
    ax.plot([], [], "D", color="C0", label="test images, mean and 95 % CI")
    ax.plot([], [], "o", color="C0", markersize=4, alpha=0.5, label="test images, trials")
    ax.plot([], [], "v", color="C1", label="training images, mean")
    for source, marker in zip(_sources(rungs), _MARKERS, strict=False):
        ax.plot([], [], marker, color="0.4", label=source)
    ax.set_xticks(range(len(rungs)), [rung.name.replace(", ", ",\n") for rung in rungs], fontsize=9)
    ax.set(ylabel="error (%)")
    ax.set_ylim(bottom=0)
    ax.set_title(title, fontsize=10)
    ax.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _sources(rungs: Sequence[Rung]) -> list[str]:
    return list(dict.fromkeys(source for rung in rungs for source in rung.published))
