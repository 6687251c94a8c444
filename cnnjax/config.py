"""Configurations: nested frozen dataclasses, changed only by name, with every value checked.

An experiment's ``Config`` is a frozen dataclass whose fields are made by :func:`setting`; a
field may itself be such a dataclass (``config.hparams``).  Command line, sweeps and stored
``config.json`` files all change and rebuild configurations through :func:`override`, so a
misspelt name or a wrong type gets the same message everywhere.

(ml_collections' config flags set attributes in place, which frozen dataclasses refuse.)
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from cnnjax.errors import UserError

C = TypeVar("C")

REPLICATES = ("seed", "fold", "fold_seed")
"""The fields that repeat a setting of a sweep instead of changing it."""


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    below: float | None = None,
    above: float | None = None,
) -> Any:
    """A dataclass field with a default, a line of help, and the range its values lie in.

    ``minimum`` is allowed itself; ``below`` and ``above`` are not.
    """
    limits = {"minimum": minimum, "below": below, "above": above}
    metadata = {"help": help, **{k: v for k, v in limits.items() if v is not None}}
    if dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: its dotted path, type, value, help and range."""

    path: str
    type: Any
    value: Any
    metadata: Mapping[str, Any]

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        inner, optional = _without_none(self.type)
        text = _describe_type(inner)
        if "minimum" in self.metadata:
            text += f" of at least {self.metadata['minimum']}"
        if "above" in self.metadata:
            text += f" above {self.metadata['above']}"
        if "below" in self.metadata:
            between = {"minimum", "above"} & self.metadata.keys()
            text += f"{' and' if between else ''} below {self.metadata['below']}"
        return text + " (or none)" * optional


def settings(config: Any, prefix: str = "") -> dict[str, Setting]:
    """All leaves of ``config`` by dotted path, in the order of their definition."""
    hints = typing.get_type_hints(type(config))
    leaves: dict[str, Setting] = {}
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            leaves |= settings(value, path + ".")
        else:
            leaves[path] = Setting(path, hints[field.name], value, field.metadata)
    return leaves


def override(config: C, changes: Mapping[str, Any]) -> C:
    """``config`` with the leaves named in ``changes`` replaced.

    Args:
        config: a configuration.
        changes: dotted path -> new value, either of the field's type or as text to parse.

    Raises:
        UserError: an unknown path, a value of the wrong type, or one out of range; the message
            names the field, the value and what would be valid.
    """
    leaves = settings(config)
    for path, value in changes.items():
        if path not in leaves:
            raise UserError(unknown_field(path, leaves))
        leaf = leaves[path]
        try:
            parsed = _parse(leaf.type, value)
            valid = _in_range(parsed, leaf.metadata)
        except (ValueError, KeyError, TypeError, OverflowError):
            valid = False
        if not valid:
            raise UserError(f"config.{path} is {value!r}; it must be {leaf.expected}")
        config = _replace(config, path.split("."), parsed)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """``config`` as nested dicts of plain values, ready for JSON."""
    return dataclasses.asdict(config)


def to_text(value: Any) -> str:
    """A leaf's value as :func:`override` reads it from text."""
    if isinstance(value, tuple | list):
        return f"({','.join(map(to_text, value))})"
    return str(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict by dotted path."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {
            prefix + name: value
        }  # fmt: skip
    return flat


def differences(ours: Any, stored: Mapping[str, Any]) -> list[str]:
    """Field by field, how ``ours`` differs from a stored :func:`to_dict`."""
    mine, theirs = flatten(_plain(to_dict(ours))), flatten(stored)
    return [
        f"config.{path} is {mine.get(path, '(absent)')!r} now and "
        f"{theirs.get(path, '(absent)')!r} there"
        for path in sorted(mine.keys() | theirs.keys())
        if mine.get(path, "(absent)") != theirs.get(path, "(absent)")
    ]


def _plain(value: Any) -> Any:
    """What JSON makes of ``value``: tuples become lists."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _replace(config: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    if rest:
        value = _replace(getattr(config, name), rest, value)
    return dataclasses.replace(config, **{name: value})


def _parse(kind: Any, value: Any) -> Any:
    """``value`` (text, or already typed) as a ``kind``; an exception if it is none."""
    kind, optional = _without_none(kind)
    if optional and (value is None or (isinstance(value, str) and value.lower() == "none")):
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return {str(a): a for a in arguments}[str(value)]
    if origin is tuple:
        items = value.strip("()[] ").split(",") if isinstance(value, str) else list(value)
        items = [item.strip(" '\"") if isinstance(item, str) else item for item in items]
        items = [item for item in items if item != ""]
        if arguments[-1] is ...:
            arguments = (arguments[0],) * len(items)
        return tuple(_parse(a, item) for a, item in zip(arguments, items, strict=True))
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() not in words:
            raise ValueError
        return words[str(value).lower()]
    if kind is str:
        if not isinstance(value, str):
            raise ValueError
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    number = kind(value)  # int("3.5") raises; int(3.5) does not
    if math.isnan(number) or (isinstance(value, float) and number != value):
        raise ValueError
    return number


def _without_none(kind: Any) -> tuple[Any, bool]:
    """``int | None`` -> ``(int, True)``; ``int`` -> ``(int, False)``."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (inner,) = [a for a in typing.get_args(kind) if a is not type(None)]
        return inner, True
    return kind, False


def _in_range(value: Any, limits: Mapping[str, Any]) -> bool:
    if value is None:
        return True
    return (
        ("minimum" not in limits or value >= limits["minimum"])
        and ("above" not in limits or value > limits["above"])
        and ("below" not in limits or value < limits["below"])
    )


def _describe_type(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        return "a list of " + ", ".join(_describe_type(a) for a in arguments if a is not ...)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return names[kind]


def unknown_field(path: str, valid: Iterable[str]) -> str:
    """The message for a field that is not among ``valid``."""
    valid = list(valid)
    close = difflib.get_close_matches(path, valid, n=1)
    hint = f"did you mean config.{close[0]}? " if close else ""
    return f"config.{path} is not a field of this experiment; {hint}valid: {', '.join(valid)}"
