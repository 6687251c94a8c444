"""A network up to one of its features, and a new classifier on it."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.models.interface import Dropout, Features
from cnnjax.transfer.stages import features_of, stages

Reading = Literal["flat", "mean"]
"""How a classifier reads maps: every unit of them, or their means over space."""


# From zero, so that chance has no part in it and the first step leaves the backbone alone.
_classifier = functools.partial(nn.Dense, kernel_init=nn.initializers.zeros, name="head")


class Head(nn.Module):
    """A linear classifier on features: float[N, views, C] -> float32[N, classes].

    An input may be given in several views; the first is the one that is classified.

    Attributes:
        classes: K.
    """

    classes: int

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        logits = _classifier(self.classes)(inputs[:, 0]).astype(jnp.float32)
        return logits, {"logits": logits}


class Transferred(nn.Module):
    """``network`` up to ``feature``, and a linear classifier: float[N, ...] -> float32[N, classes].

    Its parameters are ``backbone``, those of the network's on which the feature depends, and
    ``head``; its features are the network's up to that one, and ``logits``.

    Attributes:
        network: returns ``(logits, features)``.
        feature: the name of one of its features.
        classes: K.
        reading: how the classifier reads the feature.
    """

    network: nn.Module
    feature: str
    classes: int
    reading: Reading = "flat"

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, Features]:
        if self.has_variable("params", "backbone"):
            backbone = self.get_variable("params", "backbone")
        else:
            backbone = self.param("backbone", self._draw, inputs)
        features = features_of(self._network(), backbone, inputs)
        x = read(features[self.feature], self.reading)
        logits = _classifier(self.classes)(x).astype(jnp.float32)
        return logits, features | {"logits": logits}

    def _network(self) -> nn.Module:
        """Linen takes a module among the attributes for a part of this one; it is not."""
        return self.network.clone(parent=None, name=None)

    def _draw(self, key: jax.Array, inputs: jax.Array) -> Any:
        network = self._network()
        needed = stages(network, inputs.shape[1:], self.feature)
        needed = {path for paths in needed.values() for path in paths}
        drawn = flatten_dict(network.init(key, inputs)["params"], sep="/")
        return unflatten_dict({path: drawn[path] for path in sorted(needed)}, sep="/")


def read(maps: jax.Array, reading: Reading) -> jax.Array:
    """float[N, *spatial, C] -> float[N, ...], as a classifier reads it."""
    if reading == "mean" and maps.ndim > 2:
        return maps.mean(tuple(range(1, maps.ndim - 1)))
    return maps.reshape(maps.shape[0], -1)
