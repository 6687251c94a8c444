"""``--suite=accelerator``: the LeNets' training step and epoch on a GPU, beside PyTorch and Flax.

What ``--suite=lenet`` measures on CPU, with an epoch as one program here, and PyTorch eager and
captured as a CUDA graph.
"""

import statistics
from typing import Any

import jax
import torch

from benchmarks import contestants, speed_tables, torch_lenets
from benchmarks.contestants import NETWORKS, Contestant, require_agreement
from benchmarks.lenet import BATCHES, EXAMPLES
from benchmarks.provenance import provenance
from benchmarks.side_by_side import fastest, ratio, step_times
from benchmarks.tables import RESULTS
from cnnjax.files.durable import write_json

TORCH = ("eager", "channels_last", "graphed")
_STEPS, _ROUNDS = 200, 5


def measure() -> None:
    """Measure everything and write ``results/accelerator.json``."""
    device = jax.devices()[0]
    if device.platform != "gpu" or not torch.cuda.is_available():
        raise SystemExit(
            f"--suite=accelerator: JAX and PyTorch must see a GPU; JAX found {device.platform}"
        )
    torch.backends.cudnn.benchmark = True
    data = contestants.images(EXAMPLES)
    content = {**provenance(), "device": device.device_kind, "rows": []}
    for network in NETWORKS:
        _require_agreement(network, BATCHES[0])
        for batch in BATCHES:
            content["rows"].append(_row(network, batch, data))
            print(speed_tables.accelerator_line(content["rows"][-1]), flush=True)
            write_json(RESULTS / "accelerator.json", content)  # the machine may be lent


def _row(network: str, batch: int, data: contestants.Data) -> dict[str, Any]:
    runs: dict[str, Contestant] = {
        "cnnjax": contestants.ours(network, batch, data),
        "flax": contestants.in_flax(network, batch, data),
        **{name: _torch(network, batch, data, name) for name in TORCH},
    }
    steps = -(-EXAMPLES // batch)  # of an epoch
    times = step_times(runs, _STEPS, first=steps, rounds=_ROUNDS, seconds=0)
    eager = fastest(times, TORCH[:2])
    whole = {name: runs[name] for name in ("cnnjax", eager, "graphed")}
    epoch = step_times(whole, steps, first=1, rounds=_ROUNDS, seconds=0)
    against = {"eager": eager, "graphed": "graphed", "flax": "flax"}
    return {
        "network": network,
        "batch_size": batch,
        "torch_eager": eager,
        "step_us": {name: 1e6 * statistics.median(values) for name, values in times.items()},
        "step_against": {peer: ratio(times, name, "cnnjax") for peer, name in against.items()},
        "epoch_s": {name: steps * statistics.median(values) for name, values in epoch.items()},
        "epoch_against": {
            peer: ratio(epoch, name, "cnnjax") for peer, name in against.items() if name in epoch
        },
    }


def _torch(
    network: str, batch: int, data: contestants.Data, variant: str, **options: Any
) -> Contestant:
    return torch_lenets.contestant(network, batch, data, variant=variant, device="cuda", **options)


def _require_agreement(network: str, batch: int) -> None:
    """The same losses in some steps on one batch, without dropout and in full float32.

    For the measurement, all may then multiply in TF32: XLA does so by itself.
    """
    data = contestants.images(batch)
    _allow_tf32(False)
    with jax.default_matmul_precision("highest"):
        runs = {
            "cnnjax": contestants.ours(network, batch, data, dropout=False),
            "flax": contestants.in_flax(network, batch, data, dropout=False),
            **{name: _torch(network, batch, data, name, dropout=False) for name in TORCH},
        }
        losses = {name: [run(1) for _ in range(6)] for name, run in runs.items()}
    require_agreement(f"{network}, batch {batch}", losses)
    _allow_tf32(True)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
