"""Configurations: changed only by name, every value checked, stored and compared as JSON."""

import dataclasses
import importlib
import json
import math
import pkgutil
from typing import Literal

import jax
import pytest
from flax import struct
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

import experiments
from cnnjax.config import (
    GIVEN,
    defaults,
    differences,
    flatten,
    override,
    require_effect,
    setting,
    settings,
    to_dict,
)
from cnnjax.errors import UserError


@struct.dataclass
class Hparams:
    rate: float = setting(0.1, "a rate", above=0, below=1)
    decay: float = setting(0.0, "a decay", minimum=0)


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = setting(3, "a size", minimum=1)
    seed: int = setting(0, "a seed, without limits")
    share: float = setting(0.5, "a share", minimum=0, below=1)
    shuffle: bool = setting(True, "a switch")
    name: str = setting("plain", "a text")
    model: Literal["small", "large"] = setting("small", "a choice")
    patience: int | None = setting(None, "an optional number", minimum=1)
    widths: tuple[int, ...] = setting((8, 16), "some numbers")
    window: tuple[int, float] = setting((2, 0.5), "a number of each kind")
    hparams: Hparams = setting(Hparams(), "traced")


def value_at(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("size", "7", 7),
        ("seed", "-7", -7),
        ("share", "0", 0.0),
        ("share", "2.5e-1", 0.25),
        ("shuffle", "False", False),
        ("shuffle", "yes", True),
        ("shuffle", "0", False),
        ("name", "None", "None"),
        ("name", "", ""),
        ("model", "large", "large"),
        ("patience", "4", 4),
        ("patience", "none", None),
        ("patience", "None", None),
        ("widths", "1,2,3", (1, 2, 3)),
        ("widths", "(1, 2)", (1, 2)),
        ("widths", "[5]", (5,)),
        ("widths", "", ()),
        ("window", "3,4", (3, 4.0)),
        ("hparams.rate", "1e-3", 0.001),
    ],
)
def test_a_leaf_is_set_by_text_and_by_value(path, text, value):
    by_text, by_value = (value_at(override(Config(), {path: v}), path) for v in (text, value))
    assert by_text == by_value == value
    assert type(by_text) is type(by_value) is type(value)


def test_numbers_of_the_other_kind_are_converted_where_nothing_is_lost():
    config = override(Config(), {"size": 4.0, "share": 0, "widths": [1, 2.0]})
    assert (config.size, config.share, config.widths) == (4, 0.0, (1, 2))
    assert [type(v) for v in (config.size, config.share, *config.widths)] == [int, float, int, int]


@effort(database=None, derandomize=True, deadline=None)
@given(st.integers(-(2**53), 2**53), st.floats(0, 1, exclude_max=True))
def test_any_number_survives_being_written_as_text(integer, share):
    config = override(Config(), {"seed": str(integer), "share": str(share)})
    assert (config.seed, config.share) == (integer, share)


def test_several_leaves_change_at_once_and_the_original_does_not():
    config = Config()
    changed = override(config, {"size": "9", "hparams.rate": 0.9, "hparams.decay": "1"})
    assert changed == Config(size=9, hparams=Hparams(rate=0.9, decay=1.0))
    assert config == Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.size = 9


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("size", "3.5", "an integer of at least 1"),
        ("size", 3.5, "an integer of at least 1"),
        ("size", "many", "an integer of at least 1"),
        ("size", "", "an integer of at least 1"),
        ("size", True, "an integer of at least 1"),
        ("size", None, "an integer of at least 1"),
        ("size", [1], "an integer of at least 1"),
        ("size", "nan", "an integer of at least 1"),
        ("size", math.nan, "an integer of at least 1"),
        ("size", "inf", "an integer of at least 1"),
        ("size", math.inf, "an integer of at least 1"),
        ("size", "0", "an integer of at least 1"),
        ("size", 0, "an integer of at least 1"),
        ("share", "nan", "a number of at least 0 and below 1"),
        ("share", "1", "a number of at least 0 and below 1"),
        ("share", -0.1, "a number of at least 0 and below 1"),
        ("shuffle", "maybe", "true or false"),
        ("shuffle", 2, "true or false"),
        ("name", 3, "text"),
        ("model", "medium", "one of small, large"),
        ("model", "Small", "one of small, large"),
        ("patience", "0", "an integer of at least 1 (or none)"),
        ("patience", "never", "an integer of at least 1 (or none)"),
        ("widths", "1,x", "a list of an integer"),
        ("widths", "1.5", "a list of an integer"),
        ("widths", 3, "a list of an integer"),
        ("window", "1", "a list of an integer, a number"),
        ("window", "1,2,3", "a list of an integer, a number"),
        ("hparams.rate", "0", "a number above 0"),
        ("hparams.rate", 1.0, "below 1"),
        ("hparams.decay", "-1", "a number of at least 0"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_valid(path, value, expected):
    with pytest.raises(UserError) as caught:
        override(Config(), {path: value})
    message = str(caught.value)
    assert f"config.{path} is {value!r}; " in message
    assert expected in message
    assert "\n" not in message


def test_large_integers_are_integers():
    assert override(Config(), {"seed": str(2**53 + 1)}).seed == 2**53 + 1


def test_a_tuple_of_texts_can_be_written_as_it_is_shown():
    @dataclasses.dataclass(frozen=True)
    class Named:
        names: tuple[str, ...] = setting(("a", "b"), "some texts")

    assert override(Named(), {"names": str(("a", "b"))}) == Named()


@pytest.mark.parametrize(
    ("path", "close"),
    [("sise", "size"), ("hparams.ratte", "hparams.rate"), ("rate", None), ("hparams", None)],
)
def test_an_unknown_field_gets_the_valid_ones_and_the_closest(path, close):
    with pytest.raises(UserError) as caught:
        override(Config(), {"size": 4, path: 1})
    message = str(caught.value)
    assert message.startswith(f"config.{path} is not a field")
    assert message.endswith(f"valid: {', '.join(settings(Config()))}")
    assert close is None or f"did you mean config.{close}?" in message


@dataclasses.dataclass(frozen=True)
class Depending:
    rule: Literal["plain", "curved"] = setting("plain", "a choice")
    file: str = setting("", "a file")
    rate: float = setting(0.1, "a rate", follows={"rule": {"curved": 0.5}})
    damping: float = setting(1.0, "a number", only={"rule": ("curved",)})
    unknown: int = setting(3, "a number", only={"file": GIVEN})


def test_a_default_follows_a_choice_unless_a_value_was_given():
    curved = override(Depending(), {"rule": "curved"})
    assert curved.rate == defaults(curved)["rate"] == 0.5
    assert override(curved, {"rule": "plain"}) == Depending()
    assert override(Depending(), {"rule": "curved", "rate": 0.1}).rate == 0.1
    assert override(Depending(), {"rule": "curved"}, keep=["rate"]).rate == 0.1
    assert override(Depending(rate=0.2), {"rule": "curved"}).rate == 0.2
    stored = json.loads(json.dumps(to_dict(curved)))
    assert override(Depending(), flatten(stored)) == curved


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({}, "damping", "damping has no effect with config.rule=plain; .* where that is curved$"),
        ({}, "unknown", "unknown has no effect with config.file=; .* where that is given$"),
        ({"rule": "curved"}, "damping", None),
        ({"file": "words"}, "unknown", None),
        ({}, "rate", None),
    ],
)
def test_a_setting_without_effect_is_refused(changes, path, message):
    config = override(Depending(), changes)
    if message is None:
        require_effect(config, [path])
        return
    with pytest.raises(UserError, match=f"^config.{message}"):
        require_effect(config, ["rate", path])


def test_a_configuration_survives_json():
    changes = {"patience": 3, "widths": (1,), "name": "none", "hparams.rate": 0.3}
    config = override(Config(), changes)
    stored = json.loads(json.dumps(to_dict(config)))
    assert override(Config(), flatten(stored)) == config
    assert differences(config, stored) == []
    assert differences(Config(), stored) == [
        "config.hparams.rate is 0.1 now and 0.3 there",
        "config.name is 'plain' now and 'none' there",
        "config.patience is None now and 3 there",
        "config.widths is [8, 16] now and [1] there",
    ]


def test_fields_that_only_one_side_has_are_differences():
    stored = json.loads(json.dumps(to_dict(Config()))) | {"extra": 1}
    del stored["hparams"]["rate"]
    assert differences(Config(), stored) == [
        "config.extra is '(absent)' now and 1 there",
        "config.hparams.rate is 0.1 now and '(absent)' there",
    ]


def test_flatten_names_every_leaf_as_settings_does():
    flat = flatten(to_dict(Config()))
    assert flat == {path: leaf.value for path, leaf in settings(Config()).items()}
    assert list(flat)[-2:] == ["hparams.rate", "hparams.decay"]


def test_overridden_hparams_are_still_a_pytree_of_traced_leaves():
    hparams = override(Config(), {"hparams.rate": "0.25"}).hparams
    assert jax.tree.leaves(hparams) == [0.25, 0.0]
    traces = []

    @jax.jit
    def double(hparams):
        traces.append(1)
        return jax.tree.map(lambda leaf: 2 * leaf, hparams)

    assert double(hparams) == Hparams(rate=0.5, decay=0.0)
    assert double(hparams.replace(rate=0.125)).rate == 0.25
    assert len(traces) == 1


@pytest.mark.parametrize("name", [m.name for m in pkgutil.iter_modules(experiments.__path__)])
def test_every_experiments_defaults_are_valid_in_the_form_that_help_shows(name):
    config = importlib.import_module(f"experiments.{name}").Config()
    leaves = settings(config)
    assert all(leaf.metadata["help"] and leaf.expected for leaf in leaves.values())
    assert override(config, {path: leaf.value for path, leaf in leaves.items()}) == config
    assert override(config, {path: str(leaf.value) for path, leaf in leaves.items()}) == config
