"""``--suite=extractor``: a fixed ResNet-18 and a new classifier, 25 epochs, beside PyTorch.

PyTorch as its tutorial on transfer learning has it: the backbone in every epoch, in the training
and in the validation phase, SGD with momentum on batches of four, a tenth of the rate after every
seventh epoch; without the tutorial's random crops, so that both see the same images.
"""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import optax
import torch
import torch.nn.functional as F

from benchmarks import backbones
from benchmarks.provenance import provenance
from benchmarks.tables import RESULTS
from cnnjax import data
from cnnjax.data.folds import pool
from cnnjax.files.durable import write_json
from cnnjax.models.resnet import IMAGENET_DEVIATION, IMAGENET_MEAN
from cnnjax.training import Devices, Plan, Task, fit, predict
from cnnjax.training.batches import Batches
from cnnjax.transfer.backbones import backbone
from cnnjax.transfer.precomputed import precompute
from experiments import transfer

_EPOCHS, _BATCH, _RATE, _MOMENTUM = 25, 4, 1e-3, 0.9
_LESS, _EVERY = 0.1, 7  # of the rate
_SIZE = 224

Splits = dict[str, dict[str, np.ndarray]]


def measure(manual_dir: str | None) -> None:
    """Measure and write ``results/extractor.json``."""
    torch.set_num_threads(os.cpu_count() or 1)
    splits, source = _images(manual_dir)
    found = {"cnnjax": _ours(splits), "torch": _in_torch(splits)}
    content = {
        **provenance(),
        "threads": torch.get_num_threads(),
        "data": source,
        "images": {name: len(split["labels"]) for name, split in splits.items()},
        "epochs": _EPOCHS,
        **found,
        "against_torch": found["torch"]["seconds"] / found["cnnjax"]["seconds"],
    }
    print({name: content[name] for name in ("cnnjax", "torch", "against_torch")})
    write_json(RESULTS / "extractor.json", content)


def _images(manual_dir: str | None) -> tuple[Splits, str]:
    """Ants and bees, decoded, or noise of their number; and which."""
    folder = manual_dir or os.environ.get("CNNJAX_TEST_DATA")
    if folder and (Path(folder) / "hymenoptera_data").is_dir():
        dataset = data.load(f"folder:{folder}/hymenoptera_data:{_SIZE}")
        splits = dataset.splits
        train = [splits["train"], splits["validation"]]
        joined = {
            name: np.concatenate([np.asarray(split[name]) for split in train])
            for name in ("inputs", "labels")
        }
        test = {name: np.asarray(splits["test"][name]) for name in ("inputs", "labels")}
        return {"train": joined, "validation": test}, "ants and bees"
    random = np.random.RandomState(0)
    make = lambda count: {
        "inputs": random.randint(0, 256, (count, _SIZE, _SIZE, 3), np.uint8),
        "labels": random.randint(0, 2, count).astype(np.int32),
    }
    return {"train": make(244), "validation": make(153)}, "noise"


def _rate(steps: int) -> optax.Schedule:
    """Of a training whose epochs have so many steps."""
    falls = {steps * epoch: _LESS for epoch in range(_EVERY, _EPOCHS, _EVERY)}
    return optax.piecewise_constant_schedule(_RATE, falls)


def _task(splits: Splits) -> Task:
    config = transfer.Config(
        backbone="resnet18", weights=transfer.RANDOM, strategy="linear", distortions=False
    )
    labels = splits["train"]["labels"]
    spec = data.Spec(splits["train"]["inputs"].shape[1:], ("ants", "bees"), len(labels))
    made = transfer.task(config, spec)
    steps = -(-len(labels) // _BATCH)
    head = dataclasses.replace(
        made.frozen.head, optimizer=lambda hparams: optax.sgd(_rate(steps), _MOMENTUM)
    )
    network = backbone("resnet18", spec.shape, "the images")
    initial = network.merged(backbones.arrays(), "PyTorch", spec.shape, network.last)
    frozen = dataclasses.replace(made.frozen, head=head)
    return dataclasses.replace(made, frozen=frozen, initial=initial)


def _plan() -> Plan:
    return Plan(epochs=_EPOCHS, batch_size=_BATCH, select="last")


def _ours(splits: Splits) -> dict[str, Any]:
    """From images in memory to the trained classifier; programs are compiled, nothing is kept."""
    task, devices = _task(splits), Devices("single")
    start = time.perf_counter()
    everything, rows = pool(splits)
    once = precompute(task, everything["inputs"], devices)
    seen = {
        name: {"inputs": once.inputs(rows[name], trained=name == "train"), "labels": part["labels"]}
        for name, part in splits.items()
    }
    fitted = fit(once.task, seen, transfer.Hparams(), _plan(), devices=devices)
    seconds = time.perf_counter() - start
    held_out = seen["validation"]
    logits = predict(once.task, devices)(fitted.variables, held_out["inputs"])
    right = int((logits.argmax(1) == held_out["labels"]).sum())
    return {"seconds": seconds, "right": right, "of": len(held_out["labels"])}


def _in_torch(splits: Splits) -> dict[str, Any]:
    """The same batches, in channels_last, with which PyTorch is fastest."""
    network = backbones.network().eval().to(memory_format=torch.channels_last)
    network.requires_grad_(False)
    network.fc = torch.nn.Linear(512, 2)
    torch.nn.init.zeros_(network.fc.weight)
    torch.nn.init.zeros_(network.fc.bias)
    optimizer = torch.optim.SGD(network.fc.parameters(), _RATE, _MOMENTUM)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, _EVERY, _LESS)
    statistics = IMAGENET_MEAN, IMAGENET_DEVIATION
    mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in statistics)

    def prepare(images: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        return ((x - mean) / deviation).contiguous(memory_format=torch.channels_last)

    train, held_out = splits["train"], splits["validation"]
    order = Batches(_task(splits), train["inputs"], _plan(), Devices("single"))
    right = 0
    start = time.perf_counter()
    for epoch in range(_EPOCHS):
        rows, weights, _ = order.epoch(epoch)
        for chosen, present in zip(np.asarray(rows), np.asarray(weights), strict=True):
            chosen = chosen[present > 0]
            labels = torch.from_numpy(train["labels"][chosen].astype(np.int64))
            loss = F.cross_entropy(network(prepare(train["inputs"][chosen]))["logits"], labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        right = 0
        with torch.no_grad():
            for first in range(0, len(held_out["labels"]), _BATCH):
                part = slice(first, first + _BATCH)
                logits = network(prepare(held_out["inputs"][part]))["logits"]
                right += int((logits.argmax(1).numpy() == held_out["labels"][part]).sum())
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "right": right, "of": len(held_out["labels"])}
