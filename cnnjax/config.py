"""Configurations: nested frozen dataclasses, changed only by name, with every value checked.

An experiment's configuration is a frozen dataclass on :class:`Config` whose fields are made by
:func:`setting`; a field may itself be such a dataclass (``config.hparams``).  Command line, sweeps
and stored ``config.json`` files all change and rebuild configurations through :func:`override`, so
a misspelt name or a wrong type gets the same message everywhere.  What depends on what is said at
the field: a setting may have an effect ``only`` with some choices, and its default may follow one.

(ml_collections' config flags set attributes in place, which frozen dataclasses refuse.)
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, TypeVar

from cnnjax.errors import UserError

C = TypeVar("C")

REPLICATES = ("seed", "fold", "fold_seed")
"""The fields that repeat a setting of a sweep instead of changing it."""


GIVEN = object()
"""In ``only``: any value but None and the empty text."""


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    below: float | None = None,
    above: float | None = None,
    only: Mapping[str, Any] | None = None,
    follows: Mapping[str, Mapping[Any, Any]] | None = None,
) -> Any:
    """A dataclass field with a default, a line of help, and what its values may be.

    Args:
        default: its value unless another is given.
        help: one line for ``--help``.
        minimum: the smallest value.
        below, above: bounds that are no values themselves.
        only: it has an effect only where each of these settings, by dotted path, has one of these
            values: a tuple, or :data:`GIVEN`.
        follows: path of a choice -> value of that choice -> the default with it.
    """
    facts = {"minimum": minimum, "below": below, "above": above, "only": only, "follows": follows}
    metadata = {"help": help, **{k: v for k, v in facts.items() if v is not None}}
    if dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """What every experiment's configuration has; its own fields follow, or take their place.

    Attributes:
        dataset: the name of a data set, as :func:`cnnjax.data.load` takes it.
        seed: of all that is drawn at random in training.
        hparams: a dataclass of numbers that a trial may vary without another program.
    """

    dataset: str = setting("", "data set")
    seed: int = setting(
        0, "of initial weights, order of examples and dropout", minimum=0, below=2**32
    )
    hparams: Any = setting(None, "hyperparameters that are traced")


@dataclasses.dataclass(frozen=True)
class Replication(Config):
    """A configuration that may be repeated on the folds of a cross-validation."""

    fold: int | None = setting(None, "cross-validation: which fold is tested on", minimum=0)
    folds: int = setting(10, "of a cross-validation", minimum=2, only={"fold": GIVEN})
    fold_seed: int = setting(
        0, "of the draw of the folds", minimum=0, below=2**32, only={"fold": GIVEN}
    )


def problem_of(config: Any) -> str | None:
    """What keeps ``config`` from being the class of an experiment's configurations, if anything."""
    if not (isinstance(config, type) and issubclass(config, Config)):
        return f"is {config!r}; it must be a class on cnnjax.config.Config"
    if not ("__dataclass_fields__" in vars(config) and vars(config)["__dataclass_params__"].frozen):
        return f"{config.__name__} is no frozen dataclass; put @dataclasses.dataclass(frozen=True)"
    try:
        leaves = settings(config())
    except TypeError as error:
        return f"{config.__name__}() cannot be made ({error}); every field needs a default"
    if not dataclasses.is_dataclass(getattr(config(), "hparams", None)):
        return f"{config.__name__}.hparams is no dataclass of numbers"
    for path, leaf in leaves.items():
        if "help" not in leaf.metadata:
            return f"{path} is not made by cnnjax.config.setting(default, help)"
        for other in (*leaf.metadata.get("only", ()), *leaf.metadata.get("follows", ())):
            if other not in leaves:
                return f"{path} depends on {other}, which is no setting"
    return None


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: its dotted path, type, value, help and range."""

    path: str
    type: Any
    value: Any
    metadata: Mapping[str, Any]

    @property
    def follows(self) -> Set[str]:
        """The paths of the choices that its default follows."""
        return self.metadata.get("follows", {}).keys()

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


def override(config: C, changes: Mapping[str, Any], keep: Collection[str] = ()) -> C:
    """``config`` with the leaves named in ``changes`` replaced.

    Where a choice changes, the defaults that follow it do, too.

    Args:
        config: a configuration.
        changes: dotted path -> new value, either of the field's type or as text to parse.
        keep: paths of settings that were given before, which follow no choice.

    Raises:
        UserError: an unknown path, a value of the wrong type, or one out of range; the message
            names the field, the value and what would be valid.
    """
    leaves, before = settings(config), config
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
    for path, leaf in leaves.items():
        if path in changes or path in keep or not leaf.follows & changes.keys():
            continue
        if leaf.value == _default(before, leaf):
            config = _replace(config, path.split("."), _default(config, leaf))
    return config


def defaults(config: Any) -> dict[str, Any]:
    """Dotted path -> the default of each setting, given the choices that ``config`` has made."""
    return {path: _default(config, leaf) for path, leaf in settings(config).items()}


def require_effect(config: Any, paths: Iterable[str]) -> None:
    """Check that every setting at ``paths`` has an effect in ``config``.

    Raises:
        UserError: one has none; says with which choice it would.
    """
    leaves = settings(config)
    for path in paths:
        for other, values in leaves[path].metadata.get("only", {}).items():
            found = leaves[other].value
            if found in (None, "") if values is GIVEN else found not in values:
                wanted = "given" if values is GIVEN else " or ".join(map(to_text, values))
                raise UserError(
                    f"config.{path} has no effect with config.{other}={to_text(found)}; it has "
                    f"one where that is {wanted}"
                )


def _default(config: Any, leaf: "Setting") -> Any:
    """The default of a setting, given the choices that ``config`` has made."""
    chosen = settings(config)
    for other, table in leaf.metadata.get("follows", {}).items():
        if chosen[other].value in table:
            return table[chosen[other].value]
    return settings(type(config)())[leaf.path].value


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
