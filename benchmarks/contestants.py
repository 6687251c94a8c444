"""The contestants: the LeNets' training step in cnnjax and in plain Flax (and PyTorch's, in
:mod:`benchmarks.torch_lenets`, so that not everything imports it).

Every one goes from uint8 images in memory, shuffled by itself, to updated parameters: scaling,
forward, backward, AdamW; all start from the same parameters.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import flax_lenets
from cnnjax.data import Spec
from cnnjax.data.order import epoch_rows
from cnnjax.training import Devices, Task
from cnnjax.training.compilation import jit
from cnnjax.training.loop import init_progress, step_on_rows
from cnnjax.training.step import init_state, stream
from experiments import lenet

NETWORKS = ("lenet1", "lenet5", "modern")
RATE = 0.5  # of the modern net's dropout

Data = dict[str, np.ndarray]
Contestant = Callable[[int], float]
"""``run(steps) -> mean training loss``, going on from where it was; returns when all is done."""


def images(count: int) -> Data:
    """Images of random pixels: inputs uint8[N, 28, 28, 1], labels int32[N]."""
    random = np.random.RandomState(0)
    inputs = random.randint(0, 256, (count, 28, 28, 1), np.uint8)
    return {"inputs": inputs, "labels": random.randint(0, 10, count).astype(np.int32)}


def hparams(network: str, dropout: bool) -> lenet.Hparams:
    """Those of the experiment, with or without the modern net's dropout."""
    return lenet.Hparams(dropout=RATE if dropout and network == "modern" else 0.0)


def parameters(network: str) -> Any:
    """With which all start: the experiment's, of seed 0."""
    data = images(1)
    start = jit(functools.partial(init_state, _task(network, 1, data), 0))
    return jax.device_get(start(data["inputs"], lenet.Hparams()).params)


def _task(network: str, batch: int, data: Data) -> Task:
    config = dataclasses.replace(lenet.Config(), model=network, batch_size=batch, epochs=10**6)
    return lenet.task(config, Spec((28, 28, 1), tuple("0123456789"), len(data["labels"])))


def ours(network: str, batch: int, data: Data, *, dropout: bool = True) -> Contestant:
    """cnnjax as :func:`cnnjax.training.fit` runs it."""
    count = len(data["labels"])
    task = _task(network, batch, data)
    devices = Devices("single")
    data = devices.replicate(data)
    traced = devices.replicate(jax.tree.map(jnp.float32, hparams(network, dropout)))
    start = jit(functools.partial(init_progress, task))
    progress = devices.replicate(start(data["inputs"][:1], traced, np.uint32(0)))
    advance = devices.program(functools.partial(step_on_rows, task))
    per_epoch = -(-count // batch)
    carry, rows, done = (progress.state, progress.totals), None, 0

    def run(steps: int) -> float:
        nonlocal carry, rows, done
        carry = (carry[0], jax.tree.map(jnp.zeros_like, carry[1]))
        left = steps
        while left:
            if done % per_epoch == 0 or rows is None:
                order = stream(0, "order")
                rows = devices.divide(
                    epoch_rows(order, done // per_epoch, count=count, batch_size=batch)
                )
            piece = min(left, per_epoch - done % per_epoch)
            carry = advance(carry, data, *rows, traced, piece)
            left, done = left - piece, done + piece
        totals = jax.device_get(carry[1])
        return float(totals["loss"] / totals["count"])

    return run


def in_flax(network: str, batch: int, data: Data, *, dropout: bool = True) -> Contestant:
    """Plain Flax, fed as its MNIST example feeds it: numpy batches into a jitted step."""
    rate = hparams(network, dropout).dropout
    optimizer = optax.adamw(lenet.Hparams().learning_rate, weight_decay=0.01)
    state = flax_lenets.build(network, parameters(network), optimizer, rate)
    step = jax.jit(functools.partial(flax_lenets.train_step, network))
    order = Order(len(data["labels"]), batch)

    def run(steps: int) -> float:
        nonlocal state
        losses = []
        for _ in range(steps):
            rows = order.next()
            key = jax.random.fold_in(jax.random.key(0), order.steps)
            state, loss = step(state, data["inputs"][rows], data["labels"][rows], key)
            losses.append(loss)
        return float(np.mean(jax.device_get(losses)))

    return run


class Order:
    """Shuffled batches without end; an epoch's last batch is the rest."""

    def __init__(self, count: int, batch: int):
        self.steps = 0
        self._count, self._batch, self._random = count, batch, np.random.default_rng(0)
        self._at = count

    def next(self) -> np.ndarray:
        """The next batch's rows."""
        if self._at >= self._count:
            self._rows, self._at = self._random.permutation(self._count), 0
        rows = self._rows[self._at : self._at + self._batch]
        self._at, self.steps = self._at + self._batch, self.steps + 1
        return rows
