"""The training state and the pure training step."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from cnnjax import ops
from cnnjax.layers import WholeBatch
from cnnjax.training import variables
from cnnjax.training.calling import InTraining, apply, default_call
from cnnjax.training.sparse import lookup
from cnnjax.training.task import Hparams, Task

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@struct.dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        step: int32[], updates made so far.
        seed: uint32[], from which all randomness follows: ``fold_in(stream, step)``.
        params: the model's parameters.
        opt_state: the optimiser's.
        collections: the model's other Flax collections by name, as "batch_stats".
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    opt_state: Any
    collections: Mapping[str, Any] = struct.field(default_factory=dict)

    @property
    def variables(self) -> dict[str, Any]:
        """All of the model's collections."""
        return {"params": self.params, **self.collections}


def stream(seed: int | jax.Array, name: str) -> jax.Array:
    """The random key of a named stream ("init", "order", ...): independent of the others."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def init_state(
    task: Task, seed: int | jax.Array, inputs: jax.Array, hparams: Hparams
) -> TrainState:
    """The state before the first step; pure, so it can be jitted and vmapped over seeds.

    Args:
        task: the model with its loss and its optimiser.
        seed: the seed of the run; it may be traced.
        inputs: stored inputs [N, ...]; only their shape and type matter.
        hparams: the hyperparameters of the run; they may be traced.
    """
    drawn = draw(task, stream(seed, "init"), inputs)
    collections = variables.replaced(drawn, task.initial) if task.initial else dict(drawn)
    params = task.constrain(collections.pop("params"), hparams)
    opt_state = task.optimizer(hparams).init(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.asarray(seed, jnp.uint32),
        params=params,
        opt_state=lookup.start(task.lookup, params, opt_state) if task.lookup else opt_state,
        collections=collections,
    )


def draw(task: Task, key: jax.Array, inputs: jax.Array) -> dict[str, Any]:
    """The model's collections as it draws them itself, without ``task.initial``; pure.

    Args:
        task: the task whose model is drawn.
        key: the random key of the draw.
        inputs: stored inputs [N, ...]; only their shape and type matter.
    """
    example = jax.eval_shape(task.prepare, inputs[:1])
    zeros = jnp.zeros(example.shape, example.dtype)
    arguments = (task.call or default_call(task.model))(None)
    return {"params": {}, **task.model.init(key, zeros, **arguments)}


def train_step(
    task: Task,
    state: TrainState,
    batch: Batch,
    hparams: Hparams,
    *,
    axis_name: str | None = None,
    rows: int | None = None,
) -> tuple[TrainState, Metrics]:
    """One update on one batch: the gradient of the weighted mean loss.

    Args:
        task: the model with its loss and its optimiser.
        state: the state before the step.
        batch: "inputs" [N, ...], "labels" int32[N], "weights" float32[N] (0: padding, which
            contributes nothing).
        hparams: traced; the optimiser is built from them.
        axis_name: the device axis under ``pmap`` or ``shard_map(..., check_vma=False)``, of
            whose batch this is one part, in order.  Sums are then taken over all parts.
        rows: with ``task.lookup``, how many rows of a table the batch looks up at most.

    Returns:
        The state after the step, and sums over the batch: "loss", "correct", "count".
    """
    if task.lookup:
        plain = functools.partial(
            train_step,
            dataclasses.replace(task, lookup=None),
            hparams=hparams,
            axis_name=axis_name,
        )
        return lookup.step(
            plain, task.lookup, state, batch, hparams, rows=rows, axis_name=axis_name
        )

    def total(tree):
        return lax.psum(tree, axis_name) if axis_name else tree

    inputs, training = prepared(task, state, batch, hparams, axis_name)
    count = total(batch["weights"].sum())

    def objective(params):
        variables = {"params": params, **state.collections}
        logits, _, collections = apply(task.model, variables, inputs, training, task.call)
        losses = task.loss(logits, batch["labels"], hparams)
        loss = jnp.sum(jnp.where(batch["weights"] > 0, losses * batch["weights"], 0))
        return loss / count, (loss, logits, collections)

    gradients, (loss, logits, collections) = jax.grad(objective, has_aux=True)(state.params)
    updates, opt_state = task.optimizer(hparams).update(
        total(gradients), state.opt_state, state.params
    )
    params = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), state.params, updates)
    correct = (logits.argmax(-1) == batch["labels"]) * batch["weights"]
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=task.constrain(params, hparams),
        opt_state=opt_state,
        collections=collections,
    )
    return state, total({"loss": loss, "correct": correct.sum()}) | {"count": count}


def prepared(
    task: Task, state: TrainState, batch: Batch, hparams: Hparams, axis_name: str | None = None
) -> tuple[jax.Array, InTraining]:
    """What the model is given in a step: its inputs, and what it may need to know of the batch."""
    size = batch["labels"].shape[0]
    first = lax.axis_index(axis_name) * size if axis_name else 0
    keys = functools.partial(_keys, first + jnp.arange(size), state)
    inputs = task.prepare(batch["inputs"])
    if task.augment:
        inputs = task.augment(keys("augmentation"), inputs, hparams)
    training = InTraining(
        dropout=functools.partial(_dropout, keys, hparams),
        keys=keys,
        key=jax.random.fold_in(jax.random.fold_in(stream(state.seed, "layers"), state.step), first),
        batch=WholeBatch(batch["weights"], axis_name),
    )
    return inputs, training


def calibrate(
    task: Task,
    state: TrainState,
    data: Mapping[str, jax.Array],
    hparams: Hparams,
    members: jax.Array | None = None,
) -> TrainState:
    """The state before an epoch, its optimiser calibrated if the task wants that; pure.

    Args:
        task: the model with its loss and its optimiser.
        state: the state after the epoch before.
        data: "inputs" [N, ...] and "labels" int32[N].
        hparams: the hyperparameters, which are traced.
        members: int[n], the rows that are trained on; by default all.
    """
    if not task.calibrate:
        return state
    key = jax.random.fold_in(stream(state.seed, "calibration"), state.step)
    count = len(data["labels"]) if members is None else len(members)
    size = min(task.calibration_examples, count)
    rows = jax.random.choice(jax.random.fold_in(key, 0), count, (size,), replace=False)
    rows = rows if members is None else members[rows]
    examples = {name: data[name][rows] for name in ("inputs", "labels")}
    key = jax.random.fold_in(key, 1)
    opt_state = task.calibrate(key, state.params, state.opt_state, examples, hparams)
    return dataclasses.replace(state, opt_state=opt_state)


def _keys(positions: jax.Array, state: TrainState, name: str, site: int = 0) -> jax.Array:
    """One key per example, from its position in the whole batch: the same however it is divided."""
    key = jax.random.fold_in(jax.random.fold_in(stream(state.seed, name), state.step), site)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, positions)


def _dropout(
    keys: Callable[..., jax.Array], hparams: Hparams, x: jax.Array, site: int = 0
) -> jax.Array:
    return ops.dropout(x, keys("dropout", site), hparams.dropout)
