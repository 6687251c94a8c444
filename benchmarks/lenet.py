"""``--suite=lenet``: the LeNets' training step and epoch beside plain Flax and PyTorch."""

import functools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import contestants, speed_tables, torch_lenets
from benchmarks.contestants import NETWORKS, Contestant, require_agreement
from benchmarks.own_process import own_processes
from benchmarks.provenance import provenance
from benchmarks.side_by_side import fastest, interleave, ratio, step_times
from benchmarks.tables import RESULTS
from cnnjax.files.durable import write_json
from cnnjax.models import LeNet1, LeNet5, ModernLeNet, summarize
from cnnjax.runtime.cores import cores

EXAMPLES = 60_000
BATCHES = (64, 512)
CURVE = (1, 4, 16, 64, 256, 1024, 2048)
TORCH = ("eager", "channels_last", "compiled")
_MODELS = {"lenet1": (LeNet1(), 28), "lenet5": (LeNet5(), 32), "modern": (ModernLeNet(), 28)}


def measure() -> None:
    """Measure everything and write ``results/lenet.json`` and its picture."""
    torch.set_num_threads(cores())
    peak = _peak()
    rows, curve = [], []
    for network in NETWORKS:
        for batch in BATCHES:
            _require_agreement(network, batch)
            rows.append(_row(network, batch, peak))
            print(speed_tables.line(rows[-1]), flush=True)
        for batch in CURVE:
            curve.append(_point(network, batch))
            print(curve[-1], flush=True)
    content = {
        **provenance(),
        "threads": torch.get_num_threads(),
        "matrix_product_gflops": peak,
        "rows": rows,
        "curve": curve,
        "first_step": _first_steps(),
    }
    write_json(RESULTS / "lenet.json", content)
    picture(content)


def flops(network: str) -> int:
    """Useful operations of a training step for one example.

    Two for every connection (biases left out), for the value and for the gradients in kernel and
    input; the first layer needs no gradient in its input.
    """
    model, size = _MODELS[network]
    weights = [
        layer.connections - int(np.prod(layer.outputs))
        for layer in summarize(model, (size, size, 1))
        if not layer.name.startswith("S")
    ]
    return 2 * (3 * sum(weights) - weights[0])


def _row(network: str, batch: int, peak: Mapping[str, float]) -> Any:
    steps = -(-EXAMPLES // batch)  # of an epoch
    build = functools.partial(_contestant, network=network, batch=batch)
    with own_processes(build, ("cnnjax", "flax", *TORCH)) as runs:
        times = step_times(runs, max(16, 4096 // batch), first=steps, rounds=9, seconds=0.3)
        best = fastest(times, TORCH)
        whole = {name: runs[name] for name in ("cnnjax", best)}
        epoch = step_times(whole, steps, first=1, rounds=3, seconds=0)
    ours = statistics.median(times["cnnjax"])
    return {
        "network": network,
        "batch_size": batch,
        "torch_variant": best,
        "step_ms": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "step_against_torch": ratio(times, best, "cnnjax"),
        "step_against_flax": ratio(times, "flax", "cnnjax"),
        "epoch_s": {name: steps * statistics.median(values) for name, values in epoch.items()},
        "epoch_against_torch": ratio(epoch, best, "cnnjax"),
        "gflops": batch * flops(network) / ours / 1e9,
        "share_of_matrix_product": batch * flops(network) / ours / 1e9 / peak["jax"],
    }


def _contestant(
    name: str, network: str, batch: int, data: contestants.Data | None = None, **options: Any
) -> Contestant:
    """Made where it runs."""
    torch.set_num_threads(cores())
    data = data or contestants.images(EXAMPLES)
    if name in TORCH:
        return torch_lenets.contestant(network, batch, data, variant=name, **options)
    make = contestants.ours if name == "cnnjax" else contestants.in_flax
    return make(network, batch, data, **options)


def _require_agreement(network: str, batch: int) -> None:
    """Those that can differ must have the same losses in some steps on one batch, no dropout."""
    data = contestants.images(batch)
    losses = {}
    for name in ("cnnjax", "flax", TORCH[0]):
        run = _contestant(name, network, batch, data, dropout=False)
        losses[name] = [run(1) for _ in range(3)]
    require_agreement(f"{network}, batch {batch}", losses)


def _point(network: str, batch: int) -> dict[str, Any]:
    steps = max(8, 64 // batch)
    build = functools.partial(_contestant, network=network, batch=batch)
    with own_processes(build, ("cnnjax", "eager")) as runs:
        times = step_times(runs, steps, first=steps, rounds=3, seconds=0.1)
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    return {"network": network, "batch_size": batch, "step_ms": medians}


def _peak() -> dict[str, float]:
    """GFLOP/s of a float32 matrix product of 2048 x 2048 x 2048, in either library."""
    size = 2048
    a, b = jnp.ones((size, size)), torch.ones((size, size))
    product = jax.jit(jnp.matmul)
    times = interleave(
        {"jax": lambda: product(a, a).block_until_ready(), "torch": lambda: b @ b},
        rounds=5,
        seconds=0.3,
    )
    return {name: 2 * size**3 / min(values) / 1e9 for name, values in times.items()}


def _first_steps() -> list[dict[str, Any]]:
    """Seconds to the first step and peak memory, each in a process of its own.

    "warm" is the second of two processes that share a folder of compiled programs.
    """
    found = []
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            for library, start in (("cnnjax", "cold"), ("cnnjax", "warm"), ("flax", "cold")):
                command = [sys.executable, "-m", "benchmarks.first_step", library, network, folder]
                child = subprocess.run(command, capture_output=True, text=True, check=True)
                values = json.loads(child.stdout.splitlines()[-1])
                found.append({"network": network, "library": library, "start": start} | values)
                print(found[-1], flush=True)
    return found


def picture(content: Mapping[str, Any]) -> None:
    """Time per example against batch size, ours and PyTorch's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, network in zip(figure.subplots(1, 3, sharey=True), NETWORKS, strict=True):
        points: Sequence[Any] = [p for p in content["curve"] if p["network"] == network]
        for name, label in (("cnnjax", "cnnjax"), ("eager", "PyTorch, eager")):
            axes.loglog(
                [p["batch_size"] for p in points],
                [1e3 * p["step_ms"][name] / p["batch_size"] for p in points],
                marker="o", markersize=4, label=label,
            )  # fmt: skip
        axes.set(title=speed_tables.NAMES[network], xlabel="batch size")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel("training step, µs per example")
    figure.axes[0].legend()
    figure.savefig(RESULTS / "lenet_batch_sizes.png", dpi=110)
