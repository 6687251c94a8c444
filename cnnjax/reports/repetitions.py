"""The accuracy of every setting over repetitions of its cross-validation, beside published ones."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax import config
from cnnjax.reports.statistics import as_text


def write_repetitions(
    folder: Path,
    trials: Sequence[Mapping[str, Any]],
    published: Callable[[Mapping[str, Any]], float | None] = lambda config: None,
) -> list[Path]:
    """Write ``repetitions.md``: of each setting mean (min, max) over its repetitions.

    A repetition is a seed with a draw of the folds; its accuracy is the mean over its folds, if it
    has several.  One with a fold that was not finished does not count.

    Args:
        folder: in which the files are written.
        trials: the rows of a sweep.
        published: configuration -> the accuracy in % that a paper has for it, if one has.

    Returns:
        The file written: none if there are no trials.
    """
    settings: dict[str, dict[Any, list[Mapping[str, Any]]]] = {}
    for trial in trials:
        changes = {k: v for k, v in trial["changes"].items() if k not in config.REPLICATES}
        name = ", ".join(f"{path}={as_text(value)}" for path, value in changes.items())
        repetition = trial["config"]["seed"], trial["config"]["fold_seed"]
        settings.setdefault(name or trial["config"]["dataset"], {}).setdefault(
            repetition, []
        ).append(trial)
    if not settings:
        return []
    lines = [
        "| setting | test accuracy, %: mean (min, max) | repetitions | folds in each | published |",
        "|-|-:|-:|-:|-:|",
    ]
    for name, repetitions in settings.items():
        whole = [r for r in repetitions.values() if all(t["status"] == "finished" for t in r)]
        found = [100 * statistics.fmean(t["test"]["accuracy"] for t in r) for r in whole]
        paper = published(next(iter(repetitions.values()))[0]["config"])
        folds = sorted({len(r) for r in whole})
        lines.append(
            f"| {name} | {_spread(found)} | {len(found)} | {', '.join(map(str, folds)) or '–'} | "
            f"{'–' if paper is None else f'{paper:.1f}'} |"
        )
    path = folder / "repetitions.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [path]


def _spread(accuracies: Sequence[float]) -> str:
    if not accuracies:
        return "–"
    mean = statistics.fmean(accuracies)
    return f"{mean:.2f} ({min(accuracies):.2f}, {max(accuracies):.2f})"
