"""A network's features with a classifier on top: what transfer trains, whole or the head alone."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.models.interface import Dropout, Features
from cnnjax.training.variables import flat, nested
from cnnjax.transfer.stages import collections, dependencies, features_and_changes

Reading = Literal["flat", "mean"]
"""How a classifier reads maps: every unit of them, or their means over space."""

_BACKBONE = "backbone"

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

    Its variables are ``backbone``, those of the network's on which the feature depends, and
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
        if not self.has_variable("params", _BACKBONE):
            for name, tree in self._draw(self.make_rng("params"), inputs).items():
                self.put_variable(name, _BACKBONE, tree)
        names = [n for n in collections(self._network(), inputs.shape[1:]) if self._has(n)]
        backbone = {name: self.get_variable(name, _BACKBONE) for name in names}
        # What cannot change is not asked for: outside of training these are the same.
        changing = any(self.is_mutable_collection(name) for name in names if name != "params")
        features, changed = features_and_changes(
            self._network(), backbone, inputs, changing and not self.is_initializing()
        )
        for name, tree in changed.items():
            self.put_variable(name, _BACKBONE, tree)
        x = read(features[self.feature], self.reading)
        logits = _classifier(self.classes)(x).astype(jnp.float32)
        return logits, features | {"logits": logits}

    def _has(self, collection: str) -> bool:
        return self.has_variable(collection, _BACKBONE)

    def _network(self) -> nn.Module:
        """Linen takes a module among the attributes for a part of this one; it is not."""
        return self.network.clone(parent=None, name=None)

    def _draw(self, key: jax.Array, inputs: jax.Array) -> Mapping[str, Any]:
        """The network's collections, with the variables only that the feature depends on."""
        network = self._network()
        needed = dependencies(network, inputs.shape[1:])[self.feature]
        drawn = network.init(key, inputs)
        own = {path: leaf for path, leaf in flat(drawn).items() if path in needed}
        return {name: tree for name, tree in nested(own, drawn).items() if tree}


def read(maps: jax.Array, reading: Reading) -> jax.Array:
    """float[N, *spatial, C] -> float[N, ...], as a classifier reads it."""
    if reading == "mean" and maps.ndim > 2:
        return maps.mean(tuple(range(1, maps.ndim - 1)))
    return maps.reshape(maps.shape[0], -1)
