"""What a network is made of: every layer's output, parameters and connections."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnnjax.layers import ConvPool


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer: its name, its output's shape without N, its trained parameters, and its
    connections for one example as the primary sources count them (biases included)."""

    name: str
    outputs: tuple[int, ...]
    parameters: int
    connections: int


def totals(model: nn.Module, inputs: tuple[int, ...]) -> tuple[int, int]:
    """Connections and trained parameters of all layers, as :func:`summarize` counts them."""
    layers = summarize(model, inputs)
    return sum(layer.connections for layer in layers), sum(layer.parameters for layer in layers)


def summarize(model: nn.Module, inputs: tuple[int, ...]) -> list[LayerSummary]:
    """The layers of ``model`` on an input of shape ``inputs`` (without N), in order of use.

    Nothing is computed: shapes are traced.  A layer counts if it has a ``links`` method (those
    of :mod:`cnnjax.layers`) or is a ``flax.linen.Dense``.
    """
    layers: list[LayerSummary] = []

    def record(call, args, kwargs, context):
        result = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__":
            outputs = result[1] if isinstance(module, ConvPool) else result  # its maps
            if isinstance(module, nn.Dense):
                links = outputs.shape[-1] * (args[0].shape[-1] + module.use_bias)
            elif hasattr(module, "links"):
                links = module.links(args[0].shape, outputs.shape)
            else:
                return result
            trained = jax.tree.leaves(module.variables.get("params", {}))
            count = sum(math.prod(leaf.shape) for leaf in trained)
            name: Any = module.name
            layers.append(LayerSummary(name, outputs.shape[1:], count, links))
        return result

    def initialise(x):
        with nn.intercept_methods(record):
            return model.init(jax.random.key(0), x)

    jax.eval_shape(initialise, jax.ShapeDtypeStruct((1, *inputs), jnp.float32))
    return layers
