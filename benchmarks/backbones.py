"""``--suite=backbones``: ResNet-18's forward pass and training step at 224 px, beside PyTorch."""

import functools
import os
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks import torch_backbones
from benchmarks.contestants import require_agreement
from benchmarks.provenance import provenance
from benchmarks.side_by_side import fastest, interleave, ratio
from benchmarks.tables import RESULTS
from cnnjax.files.durable import write_json
from cnnjax.models import ResNet
from cnnjax.pretrained.merge import merge
from cnnjax.runtime.compilation import jit
from cnnjax.training import Task
from cnnjax.training.step import init_state, train_step
from cnnjax.training.variables import flat, nested
from experiments import lenet

_SIZE, _CLASSES = 224, 1000
_FORWARD, _TRAINING = (4, 16), (4, 8)
_VARIANTS = ("eager", "channels_last")
_RATE, _MOMENTUM = 1e-3, 0.9  # of PyTorch's tutorial on transfer learning


def measure() -> None:
    """Measure and write ``results/backbones.json``."""
    torch.set_num_threads(os.cpu_count() or 1)
    rows = []
    for work, batches in (("forward", _FORWARD), ("training step", _TRAINING)):
        for batch in batches:
            rows.append(_row(work, batch))
            print(rows[-1], flush=True)
    write_json(
        RESULTS / "backbones.json",
        {**provenance(), "threads": torch.get_num_threads(), "rows": rows},
    )


def _row(work: str, batch: int) -> dict[str, Any]:
    random = np.random.RandomState(0)
    images = random.standard_normal((batch, _SIZE, _SIZE, 3)).astype(np.float32)
    labels = random.randint(0, _CLASSES, batch)
    make = {"forward": _forward, "training step": _training}[work]
    runs = make(images, labels)
    require_agreement(f"{work}, batch {batch}", {name: [run()] for name, run in runs.items()})
    times = interleave(runs, rounds=7, seconds=1.0)
    best = fastest(times, _VARIANTS)
    return {
        "work": work,
        "batch_size": batch,
        "torch_variant": best,
        "ms": {name: 1e3 * statistics.median(values) for name, values in times.items()},
        "against_torch": ratio(times, best, "cnnjax"),
    }


Run = Callable[[], float]
"""One piece of work; returns a number that all contestants must agree on."""


def _forward(images: np.ndarray, labels: np.ndarray) -> dict[str, Run]:
    model, own = _network(), variables()
    logits = jit(lambda variables, x: model.apply(variables, x)[0])
    x = jnp.asarray(images)
    runs: dict[str, Run] = {"cnnjax": lambda: float(jnp.abs(logits(own, x)).mean())}

    def in_torch(network: torch.nn.Module, x: torch.Tensor) -> float:
        with torch.inference_mode():
            return float(network(x)["logits"].abs().mean())

    for name in _VARIANTS:
        runs[name] = functools.partial(in_torch, *_in_torch(name, images))
    return runs


def _training(images: np.ndarray, labels: np.ndarray) -> dict[str, Run]:
    """Of all weights; the statistics of batch normalisation stay."""
    task = Task(model=_network(), optimizer=lambda hparams: optax.sgd(_RATE, _MOMENTUM))
    hparams = lenet.Hparams(dropout=0.0)
    batch = {"inputs": jnp.asarray(images), "labels": jnp.asarray(labels, jnp.int32)}
    batch["weights"] = jnp.ones(len(labels))
    state = jit(functools.partial(init_state, task))(np.uint32(0), images[:1], hparams)
    own = variables()
    state = state.replace(params=own.pop("params"), collections=own)
    step = jit(functools.partial(train_step, task), donate_argnums=0)

    def ours() -> float:
        nonlocal state
        state, metrics = step(state, batch, hparams)
        return float(metrics["loss"] / metrics["count"])

    def in_torch(
        network: torch.nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer
    ) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(x)["logits"], torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        return loss.item()

    runs: dict[str, Run] = {"cnnjax": ours}
    for name in _VARIANTS:
        network, x = _in_torch(name, images)
        optimizer = torch.optim.SGD(network.parameters(), _RATE, _MOMENTUM, fused=True)
        runs[name] = functools.partial(in_torch, network, x, optimizer)
    return runs


def _in_torch(variant: str, images: np.ndarray) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network in evaluation mode, and its images."""
    layout = torch.channels_last if variant == "channels_last" else torch.contiguous_format
    model = network().eval().to(memory_format=layout)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    return model, x


def network() -> torch.nn.Module:
    """ResNet-18 with PyTorch's initial weights."""
    torch.manual_seed(0)
    return torch_backbones.like(ResNet(18))


def _network() -> ResNet:
    """Ours, whose statistics are those that come with the weights."""
    return ResNet(18, frozen_norms=True)


def variables() -> dict[str, Any]:
    """The weights of :func:`network`, as ours."""
    model = _network()
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, _SIZE, _SIZE, 3))))
    merged = merge(unflatten_dict(flat(like), sep="/"), arrays(), "PyTorch")
    return jax.device_put(nested(flatten_dict(merged, sep="/"), like))


def arrays() -> dict[str, np.ndarray]:
    """The weights of :func:`network`, under their names there."""
    return {name: tensor.numpy() for name, tensor in network().state_dict().items()}
