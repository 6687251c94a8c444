"""The tables of ``results/lenet.json``; importing this needs no PyTorch."""

from collections.abc import Mapping
from typing import Any

NAMES = {"lenet1": "LeNet-1", "lenet5": "LeNet-5", "modern": "modern LeNet"}


def line(row: Mapping[str, Any]) -> str:
    """A row of :func:`steps`."""
    torch_ratio, flax_ratio = row["step_against_torch"], row["step_against_flax"]
    epoch = row["epoch_against_torch"]
    return (
        f"| {NAMES[row['network']]} | {row['batch_size']} | {row['step_ms']['cnnjax']:.2f} | "
        f"{torch_ratio['median']:.2f} ({torch_ratio['min']:.2f} – {torch_ratio['max']:.2f}) | "
        f"{epoch['median']:.2f} ({epoch['min']:.2f} – {epoch['max']:.2f}) | "
        f"{flax_ratio['median']:.2f} | {row['gflops']:.0f} "
        f"({row['share_of_matrix_product']:.0%}) |"
    )


def steps(content: Mapping[str, Any]) -> str:
    """The README's table of speed, from ``lenet.json``."""
    return "\n".join(
        [
            "| network | batch | step, ms | step, times PyTorch's speed | epoch of 60,000, times "
            "PyTorch's | step, times plain Flax's | GFLOP/s (of the matrix product's) |",
            "|-|-:|-:|-:|-:|-:|-:|",
            *map(line, content["rows"]),
        ]
    )


def first_steps(content: Mapping[str, Any]) -> str:
    """The README's table of cold starts, from ``lenet.json``."""
    lines = [
        "| network | library | start | import, s | set up, s | first step, s | peak memory, MB |",
        "|-|-|-|-:|-:|-:|-:|",
    ]
    for row in content["first_step"]:
        lines.append(
            f"| {NAMES[row['network']]} | {row['library']} | {row['start']} | "
            f"{row['import_s']:.1f} | {row['set_up_s']:.1f} | {row['first_step_s']:.1f} | "
            f"{row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)
