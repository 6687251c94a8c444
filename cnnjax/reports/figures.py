"""The pictures of one run, from its files.  matplotlib without its global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from safetensors.numpy import load_file

from cnnjax.experiment.run_directory import METRICS, RunDirectory

_MOST_NAMED_CLASSES = 20  # more tick labels cannot be read


def write_report(run: RunDirectory) -> list[Path]:
    """All pictures of a finished run, written to its ``report/``."""
    result = run.read("result.json")
    classes = result["data"]["classes"]
    predictions = np.load(run.path / "predictions.npz")
    figures = {
        "learning_curves.png": learning_curves(run.rows(METRICS), result),
        "confusion_matrix.png": confusion_matrix(
            predictions["labels"], predictions["logits"].argmax(-1), classes
        ),
    }
    model = load_file(run.path / "model.safetensors")
    kernel = model.get("C1/kernel", model.get("backbone/C1/kernel"))
    if kernel is not None:
        figures["kernels.png"] = kernels(kernel, "C1 kernels")
    run.report.mkdir(exist_ok=True)
    written = []
    for name, figure in figures.items():
        figure.savefig(run.report / name, dpi=120)
        written.append(run.report / name)
    return written


def learning_curves(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Figure:
    """Loss and error of the training and validation splits after every epoch.

    Args:
        rows: of metrics.jsonl.
        result: of result.json; its test figures are drawn where the parameters were taken.
    """
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    curves = {
        "loss (nats)": lambda means: means["loss"],
        "error (%)": lambda means: 100 * (1 - means["accuracy"]),
    }
    for ax, (label, value) in zip(axes, curves.items(), strict=True):
        for split, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            ax.plot(epochs, [value(row[split]) for row in rows], color=color, label=split)
        ax.plot(
            result["selected_epoch"], value(result["test"]), "*", color="tab:red",
            markersize=11, label=f"test: {value(result['test']):.3g}",
        )  # fmt: skip
        ax.set(xlabel="epoch", ylabel=label)
        ax.set_yscale("log" if label.startswith("loss") else "linear")
        if not label.startswith("loss"):
            ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    figure.suptitle("Learning curves (training: means over each epoch, dropout included)")
    return figure


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Test examples by true class (rows) and predicted class (columns)."""
    count = len(classes)
    matrix = np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6.4, 6), layout="constrained")
    ax = figure.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ax.set(xlabel="predicted", ylabel="true class")
    wrong = matrix.sum() - matrix.trace()
    ax.set_title(f"{wrong} of {matrix.sum():,} test examples misclassified")
    if count <= _MOST_NAMED_CLASSES:
        ax.set_xticks(range(count), classes, rotation=45 if max(map(len, classes)) > 2 else 0)
        ax.set_yticks(range(count), classes)
        for row, column in zip(*np.nonzero(matrix), strict=True):
            ax.text(
                column, row, str(matrix[row, column]), ha="center", va="center",
                color="white" if shares[row, column] > 0.5 else "black",
            )  # fmt: skip
    return figure


def kernels(kernel: np.ndarray, title: str) -> Figure:
    """A convolution's kernels float32[H, W, C, F]: one picture per map, the mean over its inputs.

    Grey is zero; all share one scale.
    """
    pictures = kernel.mean(2).transpose(2, 0, 1)
    limit = np.abs(pictures).max()
    count, height, width = pictures.shape
    columns = min(8, count)
    rows = -(-count // columns)
    # One image of all, with empty pixels between them: axes for each take several times as long.
    sheet = np.full((rows * columns, height + 1, width + 1), np.nan)
    sheet[:count, :height, :width] = pictures
    sheet = sheet.reshape(rows, columns, *sheet.shape[1:]).swapaxes(1, 2)
    figure = Figure(figsize=(columns * 0.9, rows * 0.9 + 0.5), layout="constrained")
    ax = figure.subplots()
    ax.axis("off")
    ax.imshow(
        sheet.reshape(rows * (height + 1), -1)[:-1, :-1], cmap="gray", vmin=-limit, vmax=limit
    )
    figure.suptitle(f"{title}, ±{limit:.2f}", fontsize=10)
    return figure
