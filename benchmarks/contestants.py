"""The contestants: the LeNets' training step in cnnjax and in plain Flax (and PyTorch's, in
:mod:`benchmarks.torch_lenets`, so that not everything imports it).

Every one goes from uint8 images in memory, shuffled by itself, to updated parameters: scaling,
forward, backward, AdamW; all start from the same parameters.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import SingleDeviceSharding

from benchmarks import flax_lenets
from cnnjax.data import Spec
from cnnjax.data.order import epoch_rows
from cnnjax.runtime.compilation import jit, run_where_called
from cnnjax.training import Devices, Programs, Task
from cnnjax.training.progress import init_progress
from cnnjax.training.step import init_state, stream
from cnnjax.training.trials import trial_steps
from experiments import lenet

NETWORKS = ("lenet1", "lenet5", "modern")
RATE = 0.5  # of the modern net's dropout

Data = dict[str, np.ndarray]
Contestant = Callable[[int], float]
"""``run(steps) -> mean training loss``, going on from where it was; returns when all is done."""
Contestants = Callable[[int], list[float]]
"""The same of many trials: ``run(steps of each) -> mean training loss of each``."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What differs between the trainings of a sweep."""

    seed: int = 0
    learning_rate: float = lenet.Hparams().learning_rate


ALONE = Trial()


def images(count: int) -> Data:
    """Images of random pixels: inputs uint8[N, 28, 28, 1], labels int32[N]."""
    random = np.random.RandomState(0)
    inputs = random.randint(0, 256, (count, 28, 28, 1), np.uint8)
    return {"inputs": inputs, "labels": random.randint(0, 10, count).astype(np.int32)}


def hparams(network: str, dropout: bool, trial: Trial = ALONE) -> lenet.Hparams:
    """Those of the experiment, with or without the modern net's dropout."""
    rate = RATE if dropout and network == "modern" else 0.0
    return lenet.Hparams(dropout=rate, learning_rate=trial.learning_rate)


def parameters(network: str, seed: int = 0) -> Any:
    """With which all start: the experiment's."""
    state = _start(network)(np.uint32(seed), images(1)["inputs"], lenet.Hparams())
    return jax.device_get(state.params)


@functools.cache
def _start(network: str) -> Callable[..., Any]:
    return jit(functools.partial(init_state, _task(network, 1, 1)))


def _task(network: str, batch: int, count: int) -> Task:
    config = dataclasses.replace(lenet.Config(), model=network, batch_size=batch, epochs=10**6)
    return lenet.task(config, Spec((28, 28, 1), tuple("0123456789"), count))


@functools.cache
def _programs(network: str, batch: int, count: int) -> Programs:
    return Programs(_task(network, batch, count), Devices("single"))


def ours(
    network: str, batch: int, data: Data, *, dropout: bool = True, trial: Trial = ALONE
) -> Contestant:
    """cnnjax as :func:`cnnjax.training.fit` runs it; trials of one process share its programs."""
    run_where_called()
    count = len(data["labels"])
    programs = _programs(network, batch, count)
    devices, advance = programs.devices, programs.advance
    data = devices.replicate(data)
    traced = devices.replicate(jax.tree.map(jnp.float32, hparams(network, dropout, trial)))
    progress = devices.replicate(programs.start(data["inputs"][:1], traced, np.uint32(trial.seed)))
    per_epoch = -(-count // batch)
    carry, rows, done = (progress.state, progress.totals), None, 0

    def run(steps: int) -> float:
        nonlocal carry, rows, done
        carry = (carry[0], jax.tree.map(jnp.zeros_like, carry[1]))
        left = steps
        while left:
            if done % per_epoch == 0 or rows is None:
                order = stream(trial.seed, "order")
                rows = devices.divide(
                    epoch_rows(order, done // per_epoch, count=count, batch_size=batch)
                )
            piece = min(left, per_epoch - done % per_epoch)
            carry = advance(carry, data, *rows, traced, piece)
            left, done = left - piece, done + piece
        totals = jax.device_get(carry[1])
        return float(totals["loss"] / totals["count"])

    return run


def ours_together(network: str, batch: int, data: Data, trials: Sequence[Trial]) -> Contestants:
    """cnnjax's trials vmapped, as :func:`cnnjax.training.trials.fit_trials` runs them."""
    run_where_called()
    count = len(data["labels"])
    task = _task(network, batch, count)
    devices = Devices("single")
    place = SingleDeviceSharding(devices.devices[0])
    values = [hparams(network, True, trial) for trial in trials]
    traced = jax.tree.map(lambda *leaves: np.asarray(leaves, np.float32), *values)
    seeds = np.asarray([trial.seed for trial in trials], np.uint32)
    active = np.full(len(trials), True)
    data, traced, seeds, active = jax.device_put((data, traced, seeds, active), place)

    def epoch(seed: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        return epoch_rows(stream(seed, "order"), number, count=count, batch_size=batch)

    start = jax.vmap(functools.partial(init_progress, task), in_axes=(None, 0, 0))
    order = jit(jax.vmap(epoch, in_axes=(0, None)), out_shardings=place)
    advance = trial_steps(task, devices.one_program, place)
    progress = jit(start, out_shardings=place)(data["inputs"][:1], traced, seeds)
    per_epoch = -(-count // batch)
    carry, rows, done = (progress.state, progress.totals), None, 0

    def run(steps: int) -> list[float]:
        nonlocal carry, rows, done
        carry = (carry[0], jax.tree.map(jnp.zeros_like, carry[1]))
        left = steps
        while left:
            if done % per_epoch == 0:
                rows = order(seeds, np.int32(done // per_epoch))
            piece = min(left, per_epoch - done % per_epoch)
            carry = advance(carry, data, *rows, traced, active, piece)
            left, done = left - piece, done + piece
        totals = jax.device_get(carry[1])
        return (totals["loss"] / totals["count"]).tolist()

    return run


def in_turn(runs: Sequence[Contestant]) -> Contestants:
    """Trials one after another."""
    return lambda steps: [run(steps) for run in runs]


def require_agreement(what: str, losses: Mapping[str, Sequence[float]]) -> None:
    """All contestants must have had the same losses as cnnjax's first."""
    first = next(iter(losses.values()))
    for name, values in losses.items():
        if not np.allclose(values, first, rtol=1e-3):
            raise RuntimeError(f"{what}: {name} is not the same work: {losses}")


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
    """Shuffled batches without end; an epoch's last batch is the rest.

    Args:
        count: of the examples.
        batch: how many a batch has.
        seed: of the order.
        place: brings an epoch's rows to where they are used.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        seed: int = 0,
        place: Callable[[np.ndarray], Any] = lambda rows: rows,
    ):
        self.steps = 0
        self._count, self._batch, self._random = count, batch, np.random.default_rng(seed)
        self._place, self._at = place, count

    def next(self) -> Any:
        """The next batch's rows."""
        if self._at >= self._count:
            self._rows, self._at = self._place(self._random.permutation(self._count)), 0
        rows = self._rows[self._at : self._at + self._batch]
        self._at, self.steps = self._at + self._batch, self.steps + 1
        return rows
