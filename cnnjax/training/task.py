"""What is learned, and how: the one thing an experiment hands to training."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import linen as nn

from cnnjax.training.lookup import Lookup

Hparams = Any
"""A pytree dataclass of scalars that a trial may vary without changing a shape."""


def cross_entropy(logits: jax.Array, labels: jax.Array, hparams: Hparams) -> jax.Array:
    """Softmax cross-entropy in nats: float32[N, K], int32[N] -> float32[N]."""
    del hparams
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@dataclasses.dataclass(frozen=True)
class Task:
    """A model, what it should minimise, and the rule by which it does.

    Attributes:
        model: a Linen module; ``model(inputs, dropout=None)`` returns ``(logits, features)``.
            In training ``dropout`` is a function ``(x, site=0) -> x`` that drops with the rate
            ``hparams.dropout``; layers that use it more than once number their sites.
        optimizer: ``hparams -> optax.GradientTransformation``.  Called inside the traced step,
            so that hyperparameters are data, not constants of the program.
        prepare: stored inputs -> the model's inputs, on the device (scaling, for instance).
        loss: ``(logits, labels, hparams) -> float32[N]``, one loss per example.
        constrain: ``(params, hparams) -> params``, applied after every update.
        lookup: which parameters are tables whose rows the stored inputs name; a step then touches
            only those of its batch.  By default none.
    """

    model: nn.Module
    optimizer: Callable[[Hparams], optax.GradientTransformation]
    prepare: Callable[[jax.Array], jax.Array] = lambda inputs: inputs
    loss: Callable[[jax.Array, jax.Array, Hparams], jax.Array] = cross_entropy
    constrain: Callable[[Any, Hparams], Any] = lambda params, hparams: params
    lookup: Lookup | None = None

    def logits(
        self, params: Any, inputs: jax.Array, dropout: Callable[..., jax.Array] | None = None
    ) -> jax.Array:
        """The model's logits float32[N, K] on stored inputs."""
        return self.model.apply({"params": params}, self.prepare(inputs), dropout=dropout)[0]
