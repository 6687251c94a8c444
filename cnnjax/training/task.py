"""What is learned, and how: the one thing an experiment hands to training."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnnjax.training.calling import Call, Variables, apply
from cnnjax.training.sparse.lookup import Lookup

Hparams = Any
"""A pytree dataclass of scalars that a trial may vary without changing a shape."""


def cross_entropy(logits: jax.Array, labels: jax.Array, hparams: Hparams) -> jax.Array:
    """Softmax cross-entropy in nats: float32[N, K], int32[N] -> float32[N]."""
    del hparams
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(logits: jax.Array, labels: jax.Array, hparams: Hparams) -> jax.Array:
    """Half the squared distance to the target, +1 for the right class and -1 for the others.

    float32[N, K], int32[N] -> float32[N].

    Source: LeCun 1989 and LeCun et al. 1989, whose output units are scaled tanh.
    """
    del hparams
    targets = 2.0 * jax.nn.one_hot(labels, logits.shape[-1]) - 1
    return 0.5 * jnp.square(logits - targets).sum(-1)


@dataclasses.dataclass(frozen=True)
class Task:
    """A model, what it should minimise, and the rule by which it does.

    Attributes:
        model: any Linen module that returns logits float[N, K], or ``(logits, features)``.  How it
            is told that it is trained, :mod:`cnnjax.training.calling` says.  Ours take
            ``dropout=None``: in training a function ``(x, site=0) -> x`` that drops with the rate
            ``hparams.dropout``; layers that use it more than once number their sites.
        optimizer: ``hparams -> optax.GradientTransformation``.  Called inside the traced step,
            so that hyperparameters are data, not constants of the program.
        prepare: stored inputs -> the model's inputs, on the device (scaling, for instance).
        loss: ``(logits, labels, hparams) -> float32[N]``, one loss per example.
        constrain: ``(params, hparams) -> params``, applied after every update.
        views: ``(inputs, seed, epoch) -> inputs``: what each epoch of training sees of the stored
            inputs, made on the host while the devices work (:mod:`cnnjax.training.feed`); as
            :func:`cnnjax.data.random_crops`, of image files.  By default themselves.
        augment: ``(keys [N], inputs, hparams) -> inputs``: a random change of each prepared input,
            from a key of its own, in training only.
        calibrate: ``(key, params, opt_state, examples, hparams) -> opt_state``, before every epoch:
            for what an optimiser measures once a pass, as curvature.  The examples, "inputs" and
            "labels", are ``calibration_examples`` of the training split, drawn anew.
        calibration_examples: how many; at most the whole split.
        lookup: which parameters are tables whose rows the stored inputs name; a step then touches
            only those of its batch.  By default none.
        initial: path of a parameter or of another variable of the model, as a running average, its
            names joined with slashes -> the value that it starts from, instead of the one that is
            drawn.
        frozen: what of the model stays as it starts and needs to be computed once for an input.
            Who trains asks for it (:func:`cnnjax.transfer.precomputed.precompute`); the task
            itself, trained as it is, gives the same if it has no ``augment`` and no ``views``, only
            later.
        call: keyword arguments of the model's call beside its inputs, given what is known in
            training, or None elsewhere; by default as its signature says.
    """

    model: nn.Module
    optimizer: Callable[[Hparams], optax.GradientTransformation]
    prepare: Callable[[jax.Array], jax.Array] = lambda inputs: inputs
    loss: Callable[[Any, Any, Hparams], jax.Array] = cross_entropy
    constrain: Callable[[Any, Hparams], Any] = lambda params, hparams: params
    views: Callable[[Any, int, int], Any] | None = None
    augment: Callable[[jax.Array, jax.Array, Hparams], jax.Array] | None = None
    calibrate: Callable[[jax.Array, Any, Any, Mapping[str, jax.Array], Hparams], Any] | None = None
    calibration_examples: int = 500
    lookup: Lookup | None = None
    initial: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    frozen: "FrozenPart | None" = None
    call: Call | None = None

    def logits(self, variables: Variables, inputs: jax.Array) -> jax.Array:
        """The model's logits float32[N, K] on stored inputs."""
        return apply(self.model, variables, self.prepare(inputs), call=self.call)[0]


@dataclasses.dataclass(frozen=True)
class FrozenPart:
    """The part of a model that training leaves as it starts, and the task of the rest.

    Attributes:
        features: ``(initial, stored inputs [N, ...]) -> float[N, views, ...]``: what it makes of
            each input, and perhaps of random changes of it, the plain one first; ``initial`` are
            the task's initial values, path -> array.
        head: learns from features in place of inputs.  Its variables have the paths that they have
            in the whole model; all others are in the task's ``initial``.
        stored_views: how often each training input is seen: as it is, and then, if more than once,
            as the task's ``views`` of it in the epochs 1, 2, ... of seed 0.  The head has the
            features of all, in this order.
    """

    features: Callable[[Mapping[str, jax.Array], jax.Array], jax.Array]
    head: Task
    stored_views: int = 1
