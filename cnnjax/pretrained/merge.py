"""Arrays of a foreign file -> the parameters of a network, or a message that says why not."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cnnjax.errors import UserError

_SHOWN = 3  # names in a message


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family of files names and lays out what a Flax tree has.

    A file's module names are the tree's; only the last name differs.

    Attributes:
        separator: joins the names.
        leaves: the tree's last name -> the file's.
        axes: rank -> where the axes of a kernel of that rank lie in the file's.
        norms: (a convolution's name, its batch normalisation's), as a regular expression and a
            template of its groups.
        epsilon: of batch normalisation.
        unused: patterns of names without a counterpart, which may always be left over.
    """

    separator: str
    leaves: Mapping[str, str]
    axes: Mapping[int, tuple[int, ...]]
    norms: tuple[tuple[str, str], ...]
    epsilon: float
    unused: tuple[str, ...]

    def name(self, path: str) -> str:
        """The file's name of the parameter at ``path``, whose names are joined with slashes."""
        *modules, leaf = path.split("/")
        return self.separator.join([*modules, self.leaves.get(leaf, leaf)])

    def norm(self, convolution: str) -> str | None:
        """The batch normalisation that follows a convolution, if it has a name like one."""
        for pattern, template in self.norms:
            if match := re.fullmatch(pattern, convolution):
                return match.expand(template)
        return None


TORCH = Layout(
    separator=".",
    leaves={"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"},
    axes={2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)},  # outputs come first
    norms=((r"(.*)\bconv(\d+)", r"\1bn\2"), (r"(.*)\bdownsample\.0", r"\1downsample.1")),
    epsilon=1e-5,
    unused=("*num_batches_tracked",),
)
"""torchvision's networks, and others that keep its names."""

OWN = Layout(separator="/", leaves={}, axes={}, norms=(), epsilon=0.0, unused=())
"""Files of our own runs: nothing is moved."""


def merge(
    params: Any,
    arrays: Mapping[str, np.ndarray],
    source: object,
    *,
    keep: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Any:
    """``params`` with the values of ``arrays``: every one of them, and all of what there is.

    Names with slashes are those of our own files, others PyTorch's (:data:`TORCH`).  Where a
    convolution of the file has a bias that the network's has not, and its batch normalisation is
    not in the file, that was folded into it: it becomes one that adds this bias.

    Args:
        params: nested dicts of arrays; their values only count where they are kept.
        arrays: as :func:`cnnjax.pretrained.weights.read` gives them.
        source: the name of the file that they are from, for messages.
        keep: patterns (``fnmatch``) of parameters, their names joined with slashes, that are not
            taken from the file, whether it has them or not: ``layer4.*``, ``fc/*``.
        ignore: patterns of the file's names that may be left over.

    Returns:
        A tree like ``params``, of NumPy arrays in its types where they were replaced.

    Raises:
        UserError: parameters the file has not, names of the file the network has not, another
            shape or kind of number, values that are not finite, or a pattern that matches nothing.
    """
    layout = OWN if all("/" in name for name in arrays) else TORCH
    old = flatten_dict(params, sep="/")
    kept = {path for path in old if _matches(path, keep)}
    for patterns, names in ((keep, old), (ignore, arrays)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                where = "the network" if names is old else "the file"
                raise UserError(
                    f"{source}: the pattern {pattern!r} matches no name in {where}, "
                    f"which has {_some(names)}"
                )
    arrays = _unfolded(old, arrays, layout)
    wanted = {path: layout.name(path) for path in old}
    missing = [path for path in old if path not in kept and wanted[path] not in arrays]
    known = set(wanted.values())
    allowed = (*ignore, *layout.unused)
    left = [name for name in arrays if name not in known and not _matches(name, allowed)]
    problems = []
    if missing:
        problems.append(f"it lacks {len(missing)} of the network's: {_some(missing)}")
    if left:
        problems.append(f"{len(left)} of its names the network has not: {_some(left)}")
    if problems:
        raise UserError(f"{source}: does not fit the network: {'; '.join(problems)}")
    new = {
        path: leaf if path in kept else _converted(path, leaf, wanted[path], arrays, layout, source)
        for path, leaf in old.items()
    }
    return unflatten_dict(new, sep="/")


def _unfolded(
    old: Mapping[str, Any], arrays: Mapping[str, np.ndarray], layout: Layout
) -> dict[str, np.ndarray]:
    """``arrays`` with the batch normalisation that was folded into its convolution.

    Of the statistics 0 and 1 - epsilon nothing is left but the bias.
    """
    found = dict(arrays)
    modules = {path.rpartition("/")[0] for path in old}
    norms = {module.replace("/", ".") for module in modules if f"{module}/var" in old}
    for module in modules:
        name = module.replace("/", ".")
        norm = layout.norm(name)
        bias = arrays.get(f"{name}.bias")
        in_file = any(other.startswith(f"{norm}.") for other in arrays)
        if norm not in norms or bias is None or f"{module}/bias" in old or in_file:
            continue
        found |= {
            f"{norm}.weight": np.ones_like(bias),
            f"{norm}.bias": found.pop(f"{name}.bias"),
            f"{norm}.running_mean": np.zeros_like(bias),
            f"{norm}.running_var": np.full_like(bias, 1 - layout.epsilon),
        }
    return found


def _converted(
    path: str,
    old: Any,
    name: str,
    arrays: Mapping[str, np.ndarray],
    layout: Layout,
    source: object,
) -> np.ndarray:
    array = arrays[name]
    axes = layout.axes.get(array.ndim) if path.endswith("kernel") else None
    new = array.transpose(axes) if axes else array
    if new.shape != old.shape:
        moved = f", that is {new.shape}" if axes else ""
        raise UserError(
            f"{source}: {name} is {array.shape}{moved}; the network's {path} is {old.shape}"
        )
    kinds = jnp.floating, jnp.complexfloating, jnp.integer, jnp.bool_
    if not any(all(jnp.issubdtype(a.dtype, kind) for a in (new, old)) for kind in kinds):
        raise UserError(f"{source}: {name} is {new.dtype}; the network's {path} is {old.dtype}")
    new = np.ascontiguousarray(new).astype(old.dtype).reshape(old.shape)
    if not np.isfinite(new).all():
        raise UserError(f"{source}: {name} has values that are infinite or not a number")
    return new


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: Any) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
