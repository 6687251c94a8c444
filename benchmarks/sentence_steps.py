"""Sentences, and cnnjax's training step and epoch on them (PyTorch's: ``torch_sentence``)."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import data
from cnnjax.data import Spec
from cnnjax.runtime.compilation import run_where_called
from cnnjax.training import Devices, Plan, Programs, Task
from cnnjax.training.batches import Batches
from experiments import sentence

VARIANTS = ("static", "rand")  # nonstatic is the step of rand
BATCH = 50
_PLAN = Plan(epochs=1, batch_size=BATCH, batches="by_length")

Data = dict[str, np.ndarray]
Contestant = Callable[[int], float]
"""``run(steps) -> mean training loss``, going on from where it was; returns when all is done."""


def sentences(manual_dir: str | None) -> tuple[Data, int, str]:
    """Training sentences of MR, or synthetic ones like them; the vocabulary's size; which."""
    folder = manual_dir
    if not folder and "CNNJAX_TEST_DATA" in os.environ:
        folder = str(Path(os.environ["CNNJAX_TEST_DATA"]) / "sentences")
    if folder:
        config = sentence.Config(dataset="mr", fold=0)
        dataset = data.divide(data.load("mr", None, folder), config)
        return dict(dataset.splits["train"]), len(dataset.spec.vocabulary), "MR, fold 0"
    random = np.random.RandomState(0)
    count, words, longest = 8636, 18_767, 56
    inputs = np.zeros((count, longest + 8), np.int32)
    for row in inputs:
        length = int(np.clip(random.normal(21, 9.4), 1, longest))
        frequent = random.zipf(1.3, length) % (words - 2)
        any_word = random.randint(0, words - 2, length)
        row[4 : 4 + length] = 2 + np.where(random.rand(length) < 0.6, frequent, any_word)
    labels = random.randint(0, 2, count).astype(np.int32)
    return {"inputs": inputs, "labels": labels}, words, "synthetic, like MR"


def task(variant: str, words: int, length: int, *, by_length: bool = True) -> Task:
    """The experiment's, with drawn vectors."""
    spec = Spec((length,), ("negative", "positive"), 0, tuple(map(str, range(words))))
    made = sentence.assemble(sentence.Config(variant=variant), spec)
    if by_length:
        return made
    return dataclasses.replace(made, lookup=dataclasses.replace(made.lookup, columns=None))


def hparams(dropout: bool) -> sentence.Hparams:
    """Those of the experiment, with or without dropout."""
    return sentence.Hparams() if dropout else sentence.Hparams(dropout=0.0)


def parameters(variant: str, words: int, length: int) -> Any:
    """With which all start."""
    made = task(variant, words, length)
    return jax.device_get(start(made, length, hparams(True)).state.params)


def start(made: Task, length: int, values: sentence.Hparams) -> Any:
    """Progress before the first step."""
    traced = jax.tree.map(jnp.float32, values)
    programs = Programs(made, Devices("single"))
    return programs.start(np.zeros((1, length), np.int32), traced, np.uint32(0))


def order(variant: str, words: int, examples: Data) -> Batches:
    """The batches of similar length that cnnjax trains on."""
    inputs = examples["inputs"]
    return Batches(task(variant, words, inputs.shape[1]), inputs, _PLAN, Devices("single"))


def ours(
    variant: str, words: int, examples: Data, *, by_length: bool = True, dropout: bool = True
) -> Contestant:
    """cnnjax as :func:`cnnjax.training.fit` runs it."""
    run_where_called()
    inputs = examples["inputs"]
    made = task(variant, words, inputs.shape[1], by_length=by_length)
    devices, values = Devices("single"), hparams(dropout)
    programs = Programs(made, devices)
    batches = Batches(made, inputs, _PLAN, devices)
    on_device = devices.replicate(examples)
    traced = devices.replicate(jax.tree.map(jnp.float32, values))
    progress = programs.start(inputs[:1], traced, np.uint32(0))
    carry, done = devices.replicate((progress.state, progress.totals)), 0
    per_epoch = -(-len(inputs) // BATCH)
    rows = weights = sizes = None

    def run(steps: int) -> float:
        nonlocal carry, rows, weights, sizes, done
        carry = (carry[0], jax.tree.map(jnp.zeros_like, carry[1]))
        for _ in range(steps):
            if done % per_epoch == 0:
                rows, weights, sizes = batches.epoch(done // per_epoch)
                rows, weights = devices.divide((rows, weights))
            size = sizes[done % per_epoch]
            carry = programs.advance(carry, on_device, rows, weights, traced, 1, size)
            done += 1
        totals = jax.device_get(carry[1])
        jax.block_until_ready(carry)
        return float(totals["loss"] / totals["count"])

    return run
