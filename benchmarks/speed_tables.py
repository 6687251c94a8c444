"""The tables of speed, from their files in ``results``; importing this needs no PyTorch."""

from collections.abc import Mapping
from typing import Any

NAMES = {"lenet1": "LeNet-1", "lenet5": "LeNet-5", "modern": "modern LeNet"}
_WAYS = {"processes": "a process a core", "one_program": "one program"}


def line(row: Mapping[str, Any]) -> str:
    """A row of :func:`steps`."""
    return (
        f"| {NAMES[row['network']]} | {row['batch_size']} | {row['step_ms']['cnnjax']:.2f} | "
        f"{_range(row['step_against_torch'])} | {_range(row['epoch_against_torch'])} | "
        f"{row['step_against_flax']['median']:.2f} | {row['gflops']:.0f} "
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


def accelerator_line(row: Mapping[str, Any]) -> str:
    """A row of :func:`accelerator`."""
    ratios = [row["step_against"][peer] for peer in ("eager", "graphed", "flax")]
    ratios += [row["epoch_against"][peer] for peer in ("eager", "graphed")]
    return (
        f"| {NAMES[row['network']]} | {row['batch_size']} | {row['step_us']['cnnjax']:.0f} | "
        f"{' | '.join(map(_range, ratios))} |"
    )


def accelerator(content: Mapping[str, Any]) -> str:
    """The README's table of a GPU, from ``accelerator.json``."""
    return "\n".join(
        [
            f"| {content['device']} | batch | step, µs | step, times eager PyTorch's speed | times "
            "its CUDA graph's | times plain Flax's | epoch of 60,000, times eager PyTorch's | "
            "times its CUDA graph's |",
            "|-|-:|-:|-:|-:|-:|-:|-:|",
            *map(accelerator_line, content["rows"]),
        ]
    )


def first_steps(content: Mapping[str, Any]) -> str:
    """The README's table of cold starts, from ``lenet.json``."""
    lines = [
        "| network | library | start | import, s | set up, s | first steps, s | peak memory, MB |",
        "|-|-|-|-:|-:|-:|-:|",
    ]
    for row in content["first_step"]:
        lines.append(
            f"| {NAMES[row['network']]} | {row['library']} | {row['start']} | "
            f"{row['import_s']:.1f} | {row['set_up_s']:.1f} | {row['first_step_s']:.1f} | "
            f"{row['peak_mb']:.0f} |"
        )
    return "\n".join(lines)


def sweep_line(row: Mapping[str, Any]) -> str:
    """A row of :func:`sweeps`."""
    way = row["way"]
    ratios = [
        row["against_torch_in_turn"],
        row["against_torch_processes"],
        row["in_turn_against_torch_in_turn"],
        row["one_program_against_torch_in_turn"],
    ]
    cells = " | ".join(_range(found) if found else "" for found in ratios)
    return (
        f"| {NAMES[row['network']]} | {row['trials']} | {row['steps_per_s'][way]:,.0f} "
        f"({_WAYS[way]}) | {cells} |"
    )


def sweeps(content: Mapping[str, Any]) -> str:
    """The README's table of sweeps, from ``sweeps.json``."""
    return "\n".join(
        [
            "| network | trials | cnnjax, steps/s of all trials | times PyTorch in turn | times "
            "PyTorch in a process a core | in turn, times PyTorch in turn | one program, times "
            "PyTorch in turn |",
            "|-|-:|-:|-:|-:|-:|-:|",
            *map(sweep_line, content["rows"]),
        ]
    )


def sentence_line(row: Mapping[str, Any]) -> str:
    """A row of :func:`sentence`."""
    names = {"static": "static", "rand": "rand, nonstatic"}
    ratios = [
        row["step_against_torch"],
        row["epoch_against_torch"],
        row["step_whole_length_against_torch"],
        row["epoch_against_torch_by_length"],
    ]
    peak = row["peak_mb"]
    return (
        f"| {names[row['variant']]} | {row['step_ms']['cnnjax']:.2f} | "
        f"{' | '.join(map(_range, ratios))} | {peak['cnnjax']:.0f} / {peak['torch']:.0f} |"
    )


def sentence(content: Mapping[str, Any]) -> str:
    """The README's table of sentences, from ``sentence.json``."""
    return "\n".join(
        [
            "| variant | step, ms | step, times PyTorch's speed | epoch, times PyTorch's | step in "
            "whole length, times PyTorch's | epoch, times PyTorch's with short batches, too | peak "
            "memory, MB, ours / PyTorch's |",
            "|-|-:|-:|-:|-:|-:|-:|",
            *map(sentence_line, content["rows"]),
        ]
    )


def _range(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} – {ratio['max']:.2f})"


def backbones(content: Mapping[str, Any]) -> str:
    """The README's table, from ``backbones.json``."""
    lines = ["| ResNet-18, 224 px | batch | cnnjax, ms | times PyTorch's speed |", "|-|-:|-:|-:|"]
    for row in content["rows"]:
        found = row["against_torch"]
        lines.append(
            f"| {row['work']} | {row['batch_size']} | {row['ms']['cnnjax']:.0f} | "
            f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f}) |"
        )
    return "\n".join(lines)


def extractor(content: Mapping[str, Any]) -> str:
    """The README's table, from ``extractor.json``."""
    lines = [f"| {content['data']} | seconds | right of the validation images |", "|-|-:|-:|"]
    for name, label in (("cnnjax", "cnnjax"), ("torch", "PyTorch")):
        found = content[name]
        lines.append(f"| {label} | {found['seconds']:.1f} | {found['right']} of {found['of']} |")
    return "\n".join([*lines, f"| **times PyTorch's speed** | {content['against_torch']:.1f} | |"])
