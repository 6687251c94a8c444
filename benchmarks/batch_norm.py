"""Twenty SGD steps of a ResNet with batch normalisation, side by side with PyTorch's.

Both start from the same weights and see the same batches; the last of them is half padding for us,
and half as large for PyTorch.  What is compared is the largest difference of any loss, parameter
and running average.  A difference in the last place grows with every step of such a network, the
faster the higher the rate: hence small rates, and float64, which shows that it is rounding.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import torch
import torch.nn.functional as F
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks import torch_backbones
from benchmarks.provenance import provenance
from benchmarks.tables import RESULTS
from cnnjax.files.durable import write_json
from cnnjax.models import CifarResNet
from cnnjax.pretrained.merge import merge
from cnnjax.training import Task, TrainState, init_state, train_step
from cnnjax.training.variables import flat, nested

_STEPS, _BATCH, _MOMENTUM = 20, 32, 0.9
_CASES = (("float32", 1e-4), ("float64", 1e-4), ("float32", 1e-2), ("float64", 1e-2))
_RECORD = 3073  # bytes of an image in CIFAR-10's binary files: label and 3 x 32 x 32 levels


@struct.dataclass
class _Hparams:
    """As the network wants them: PyTorch's does not drop."""

    learning_rate: float
    dropout: float = 0.0


def measure(manual_dir: str | None) -> None:
    """Take the steps, and write ``results/batch_norm.json``.

    Args:
        manual_dir: with ``test_batch_first1000.bin`` of CIFAR-10 in it or in its folder cifar10;
            by default the images are noise.
    """
    images, labels, source = _images(manual_dir)
    rows = [_compared(images, labels, *case) for case in _CASES]
    content = {"network": "ResNet-20 (CIFAR-10)", "images": source, "steps": _STEPS}
    write_json(RESULTS / "batch_norm.json", {**provenance(), **content, "rows": rows})


def _compared(images: np.ndarray, labels: np.ndarray, dtype: str, rate: float) -> dict[str, Any]:
    with jax.enable_x64(dtype == "float64"):
        hparams = jax.tree.map(np.dtype(dtype).type, _Hparams(rate))
        model = CifarResNet(20)
        task = Task(model, lambda h: optax.sgd(h.learning_rate, momentum=_MOMENTUM))
        torch.manual_seed(0)
        net = torch_backbones.like(model).to(getattr(torch, dtype))
        images = images.astype(dtype)
        state = init_state(task, 0, images[:1], hparams)
        variables = _taken(state, net, dtype)
        state = state.replace(
            params=variables.pop("params"),
            collections=variables,
            opt_state=jax.tree.map(lambda a: np.asarray(a, dtype), state.opt_state),
        )
        theirs = _steps_of_torch(net, images, labels, rate)
        ours, state = _steps(task, state, images, labels, hparams)
        expected = _taken(state, net, dtype)
        row = {
            "dtype": dtype,
            "learning_rate": rate,
            "losses": [theirs[0], theirs[-1]],
            "largest_difference": {
                "loss": float(np.abs(np.subtract(ours, theirs)).max()),
                "parameter": _difference(state.params, expected["params"]),
                "running average": _difference(
                    state.collections["batch_stats"], expected["batch_stats"]
                ),
            },
        }
    print(row)
    return row


def _images(manual_dir: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    count = _STEPS * _BATCH
    if manual_dir is None:
        random = np.random.RandomState(0)
        return random.randn(count, 32, 32, 3), random.randint(0, 10, count).astype("i4"), "noise"
    name = "test_batch_first1000.bin"
    folders = Path(manual_dir), Path(manual_dir) / "cifar10"
    path = next(folder / name for folder in folders if (folder / name).exists())
    records = np.fromfile(path, np.uint8).reshape(-1, _RECORD)[:count]
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) / 255
    return images - images.mean((0, 1, 2)), records[:, 0].astype("i4"), "CIFAR-10, test"


def _batches(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and labels of each step; the last has half of them."""
    for step in range(_STEPS):
        size = _BATCH if step < _STEPS - 1 else _BATCH // 2
        rows = slice(step * _BATCH, step * _BATCH + size)
        yield images[rows], labels[rows]


def _steps(
    task: Task, state: TrainState, images: np.ndarray, labels: np.ndarray, hparams: _Hparams
) -> tuple[list[float], TrainState]:
    step, losses = jax.jit(functools.partial(train_step, task)), []
    for inputs, classes in _batches(images, labels):
        missing = _BATCH - len(classes)
        batch = {
            # What fills a batch up must not matter.
            "inputs": np.concatenate([inputs, 100 + inputs[:missing]]),
            "labels": np.pad(classes, (0, missing)),
            "weights": np.pad(np.ones(len(classes), images.dtype), (0, missing)),
        }
        state, metrics = step(state, batch, hparams)
        losses.append(float(metrics["loss"] / metrics["count"]))
    return losses, state


def _steps_of_torch(
    net: torch.nn.Module, images: np.ndarray, labels: np.ndarray, rate: float
) -> list[float]:
    optimizer = torch.optim.SGD(net.parameters(), rate, _MOMENTUM)
    net.train()
    losses = []
    for inputs, classes in _batches(images, labels):
        optimizer.zero_grad()
        logits = net(torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy()))["logits"]
        loss = F.cross_entropy(logits, torch.from_numpy(classes.astype(np.int64)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _taken(state: TrainState, net: torch.nn.Module, dtype: str) -> dict[str, Any]:
    """PyTorch's arrays as the variables of ours."""
    arrays = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    like = {path: np.empty(leaf.shape, dtype) for path, leaf in flat(state.variables).items()}
    merged = merge(unflatten_dict(like, sep="/"), arrays, "PyTorch")
    return nested(flatten_dict(merged, sep="/"), state.variables)


def _difference(ours: Any, theirs: Any) -> float:
    ours, theirs = flatten_dict(dict(ours)), flatten_dict(dict(theirs))
    return max(float(np.abs(ours[path] - theirs[path]).max()) for path in theirs)
