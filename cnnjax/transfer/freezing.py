"""Which parameters are trained, how fast, and from when on: optax transformations by path."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict, path_aware_map

FROZEN = None
"""The depth of a parameter that is not trained."""

Depths = Mapping[str, int | None]
"""Path of a parameter, its names joined with slashes -> how far below the top it lies: 0, 1, ...;
or :data:`FROZEN`."""


def by_depth(
    direction: optax.GradientTransformation,
    depths: Depths,
    *,
    decay: jax.Array | float = 1.0,
    starts: Sequence[jax.Array | int] | None = None,
) -> optax.GradientTransformation:
    """``direction`` for what is trained, smaller for what lies deeper; nothing for what is frozen.

    What is frozen has no state either, and where it leaves a gradient unused, XLA does not compute
    it.  Weight decay belongs into ``direction``: what is frozen has none.  A rate that changes over
    the steps belongs behind: steps within ``direction`` are counted from a parameter's start.

    Args:
        direction: what is done to the gradients of what is trained.
        depths: of every parameter.
        decay: traced; updates at depth d are multiplied by ``decay``^d.  (Discriminative
            fine-tuning: Howard and Ruder 2018, section 3.2, where it is 1 / 2.6.)
        starts: traced; for each depth the step before which its parameters and their state stay as
            they are.  (Gradual unfreezing: section 3.3 there.)  By default all start at once.

    Raises:
        ValueError: a parameter without a depth, or a depth without a parameter (when initialised).
    """

    def label(params: Any) -> Any:
        return path_aware_map(lambda path, _: _label(depths["/".join(map(str, path))]), params)

    def from_step(depth: int) -> optax.GradientTransformation:
        if starts is None or depth == 0:
            return direction
        begin: Any = starts
        return optax.conditionally_mask(direction, lambda step, **_: step >= begin[depth])

    def scaled(updates: Any, params: Any) -> Any:
        del params
        depth_of = lambda path: depths["/".join(map(str, path))]
        return path_aware_map(lambda path, u: _scaled(u, depth_of(path), decay), updates)

    trained = sorted({depth for depth in depths.values() if depth is not None})  # FROZEN
    rules: dict[Hashable, optax.GradientTransformation] = {_label(FROZEN): optax.set_to_zero()}
    rules |= {_label(d): from_step(d) for d in trained}
    chained = optax.chain(optax.multi_transform(rules, label), optax.stateless(scaled))

    def init(params: Any) -> Any:
        _require_all(depths, params)
        return chained.init(params)

    return optax.GradientTransformation(init, chained.update)


def described(stages: Mapping[str, Sequence[str]], depths: Depths, params: Any) -> str:
    """What is trained and what is frozen, in one line: stages, and the number of parameters.

    Args:
        stages: name -> paths of its parameters; together all.
        depths: of every parameter.
        params: the tree; only shapes matter.
    """
    leaves: Any = flatten_dict(params, sep="/")
    sizes = {path: leaf.size for path, leaf in leaves.items()}
    parts = []
    for word, chosen in (("trained", lambda d: d is not FROZEN), ("frozen", lambda d: d is FROZEN)):
        found = {
            name: sum(sizes[path] for path in paths if chosen(depths[path]))
            for name, paths in stages.items()
        }
        names = ", ".join(name for name, size in found.items() if size) or "nothing"
        parts.append(f"{word} {names} ({sum(found.values()):,} parameters)")
    return "; ".join(parts)


def _label(depth: int | None) -> str:
    return "frozen" if depth is FROZEN else f"depth {depth}"


def _scaled(update: jax.Array, depth: int | None, decay: jax.Array | float) -> jax.Array:
    return update * decay**depth if depth else update


def _require_all(depths: Depths, params: Any) -> None:
    found = set()
    path_aware_map(lambda path, _: found.add("/".join(map(str, path))), params)
    if found != depths.keys():
        without, extra = sorted(found - depths.keys()), sorted(depths.keys() - found)
        raise ValueError(f"parameters without depth: {without}; depths without parameter: {extra}")
