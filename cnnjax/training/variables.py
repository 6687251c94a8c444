"""A model's variables, whichever collection they are in, by the path of their module and name.

Files of weights know no collections: the running average ``bn1/mean`` lies in them beside the
parameter ``bn1/scale``.  A path is in one collection only, so nothing is lost.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict


def flat(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Path, its names joined with slashes -> array, over all collections.

    Raises:
        ValueError: two collections have a variable of the same path.
    """
    found: dict[str, Any] = {}
    for name, tree in variables.items():
        leaves = flatten_dict(dict(tree), sep="/")
        if both := found.keys() & leaves.keys():
            raise ValueError(
                f"{name!r} and another collection of the model both have {sorted(both)[0]!r}; a "
                f"variable's path must be in one collection only"
            )
        found |= leaves
    return found


def nested(arrays: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`flat`: each array in the collection where ``like`` has its path.

    Raises:
        ValueError: a path that ``like`` does not have.
    """
    if unknown := arrays.keys() - flat(like).keys():
        raise ValueError(f"values for {sorted(unknown)}, which the model does not have")
    return {
        name: unflatten_dict(
            {path: arrays[path] for path in flatten_dict(dict(tree), sep="/") if path in arrays},
            sep="/",
        )
        for name, tree in like.items()
    }


def replaced(variables: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``variables`` with the values that are given for some paths, in the types that they have.

    Raises:
        ValueError: a path that they do not have.
    """
    old = flat(variables)
    if unknown := values.keys() - old.keys():
        raise ValueError(f"initial values for {sorted(unknown)}, which the model does not have")
    given = {path: jnp.asarray(array, old[path].dtype) for path, array in values.items()}
    return nested(old | given, variables)
