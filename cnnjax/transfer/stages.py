"""Which parameters each feature of a network depends on: what a stage is, without a table of any.

Only shapes are traced, once for a network and a shape.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import Literal

from cnnjax.models.interface import Features


@functools.cache
def shapes(network: nn.Module, inputs: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """Path -> shape and type of each parameter, for inputs of shape ``inputs`` (without N)."""
    example = jax.ShapeDtypeStruct((1, *inputs), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), example)["params"]
    return flatten_dict(params, sep="/")


@functools.cache
def dependencies(network: nn.Module, inputs: tuple[int, ...]) -> dict[str, frozenset[str]]:
    """Feature -> the paths of all parameters that it depends on, in the order of the features.

    Args:
        network: returns ``(logits, features)``.
        inputs: shape of one input (without N).
    """
    params, names = shapes(network, inputs), []

    def features(params: dict[str, jax.Array], inputs: jax.Array) -> list[jax.Array]:
        found = network.apply({"params": unflatten_dict(params, sep="/")}, inputs)[1]
        names[:] = found
        return list(found.values())

    example = jax.ShapeDtypeStruct((1, *inputs), jnp.float32)
    jaxpr = jax.make_jaxpr(features)(params, example).jaxpr
    # An operation's results depend on all that its operands depend on.
    known = dict(zip(jaxpr.invars, [frozenset([path]) for path in sorted(params)], strict=False))
    of = lambda operand: (
        frozenset() if isinstance(operand, Literal) else known.get(operand, frozenset())
    )
    for equation in jaxpr.eqns:
        both = frozenset().union(*map(of, equation.invars))
        known.update(dict.fromkeys(equation.outvars, both))
    return {name: of(output) for name, output in zip(names, jaxpr.outvars, strict=True)}


def stages(network: nn.Module, inputs: tuple[int, ...], feature: str) -> dict[str, tuple[str, ...]]:
    """The stages up to ``feature``, from the input on: stage -> the paths of its own parameters.

    A stage is a feature with parameters that no feature before it depends on: pooling is none.
    One that ``feature`` does not depend on is none, either.

    Raises:
        KeyError: the network has no such feature.
    """
    known = dependencies(network, inputs)
    left, found = known[feature], {}
    for name, paths in known.items():
        if own := left & paths:
            found[name] = tuple(sorted(own))
            left -= own
    return found


def features_of(network: nn.Module, params: Any, inputs: jax.Array) -> Features:
    """The features of ``network`` that depend on ``params`` alone, of which others may be missing.

    Args:
        network: returns ``(logits, features)``.
        params: some of its parameters, as nested dicts.
        inputs: float[N, ...].
    """
    shape = inputs.shape[1:]
    there = flatten_dict(params, sep="/")
    # What the others would give is not used, so under jit they cost nothing.
    whole = {
        path: there.get(path, jnp.zeros(leaf.shape, leaf.dtype))
        for path, leaf in shapes(network, shape).items()
    }
    found = network.apply({"params": unflatten_dict(whole, sep="/")}, inputs)[1]
    known = dependencies(network, shape)
    return {name: found[name] for name in known if known[name] <= there.keys()}
