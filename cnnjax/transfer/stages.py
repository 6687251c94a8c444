"""Which variables each feature of a network depends on: what a stage is, without a table of any.

Only shapes are traced, once for a network and a shape.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import Literal

from cnnjax.models.interface import Features
from cnnjax.training.variables import flat, nested


@functools.cache
def collections(network: nn.Module, inputs: tuple[int, ...]) -> Mapping[str, Any]:
    """The network's collections, with the shape and type of each variable in place of its value.

    Args:
        network: any Linen module.
        inputs: shape of one input (without N).
    """
    example = jax.ShapeDtypeStruct((1, *inputs), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), example)


def shapes(network: nn.Module, inputs: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    """Path -> shape and type of each variable, for inputs of shape ``inputs`` (without N)."""
    return flat(collections(network, inputs))


@functools.cache
def dependencies(network: nn.Module, inputs: tuple[int, ...]) -> dict[str, frozenset[str]]:
    """Feature -> the paths of all variables that it depends on, in the order of the features.

    Args:
        network: returns ``(logits, features)``.
        inputs: shape of one input (without N).
    """
    like, names = collections(network, inputs), []

    def features(variables: dict[str, jax.Array], inputs: jax.Array) -> list[jax.Array]:
        found = network.apply(nested(variables, like), inputs)[1]
        names[:] = found
        return list(found.values())

    variables = flat(like)
    example = jax.ShapeDtypeStruct((1, *inputs), jnp.float32)
    jaxpr = jax.make_jaxpr(features)(variables, example).jaxpr
    # An operation's results depend on all that its operands depend on.
    paths = sorted(variables)
    known = dict(zip(jaxpr.invars, [frozenset([path]) for path in paths], strict=False))
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
    parameters = flat({"params": collections(network, inputs)["params"]}).keys()
    left, found = known[feature] & parameters, {}
    for name, paths in known.items():
        if own := left & paths:
            found[name] = tuple(sorted(own))
            left -= own
    return found


def features_of(network: nn.Module, variables: Mapping[str, Any], inputs: jax.Array) -> Features:
    """The features of ``network`` that depend on ``variables`` alone; others may be missing there.

    Args:
        network: returns ``(logits, features)``.
        variables: some of its variables, by collection.
        inputs: float[N, ...].
    """
    return features_and_changes(network, variables, inputs)[0]


def features_and_changes(
    network: nn.Module, variables: Mapping[str, Any], inputs: jax.Array, mutable: bool = False
) -> tuple[Features, dict[str, Any]]:
    """:func:`features_of`, and where it is ``mutable`` what the call made of other collections.

    Of the collections that are not "params", those of ``variables`` are returned, changed.
    """
    shape = inputs.shape[1:]
    like, there = collections(network, shape), flat(variables)
    # What the others would give is not used, so under jit they cost nothing.
    whole = {
        path: there.get(path, jnp.zeros(leaf.shape, leaf.dtype))
        for path, leaf in flat(like).items()
    }
    others = [name for name in like if name != "params"]
    found: Any = network.apply(nested(whole, like), inputs, mutable=others if mutable else False)
    (_, features), changed = found if mutable else (found, {})
    known = dependencies(network, shape)
    kept = {path: leaf for path, leaf in flat(changed).items() if path in there}
    return (
        {name: features[name] for name in known if known[name] <= there.keys()},
        nested(kept, changed),
    )
