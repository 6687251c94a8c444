"""Sweeps as data: a sweep is a tuple of trials, a trial the changes it makes to a configuration.

Functions of sweeps give sweeps, so they nest:

    product(grid({"hparams.learning_rate": (0.01, 0.1)}), axis("seed", range(8)))

is 16 trials, the 8 seeds of the first learning rate before those of the second.  Every sweep
has at least one trial and no trial twice.  Which paths and values an experiment accepts is for
``cnnjax.config.override`` to say.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cnnjax.errors import UserError

Changes = dict[str, Any]  # dotted path, as "hparams.learning_rate" -> value
Sweep = tuple[Changes, ...]  # one entry = one trial

MOST_TRIALS = 1_000_000  # beyond it a sweep is taken for a slip of the pen


def axis(path: str, values: Iterable[Any]) -> Sweep:
    """One trial for each value of the setting at ``path``.

    Args:
        path: dotted path in the configuration, without "config.".
        values: its values in order; those of arrays (NumPy's or JAX's) become plain numbers.

    Raises:
        UserError: no values, a value twice, or something that is not an ordered list of values.
    """
    given: Any = values  # people write other things
    if isinstance(given, str | dict | set | frozenset) or not isinstance(given, Iterable):
        raise UserError(f"the values of {path} are {values!r}; they must be a list or a range")
    values = list(itertools.islice(values, MOST_TRIALS + 1))
    if not values:
        raise UserError(f"{path} has no values; an axis needs at least one")
    _check_size(len(values))
    return _distinct({path: _plain(value)} for value in values)


def product(*sweeps: Sweep) -> Sweep:
    """Every trial of each sweep with every trial of the others; the last varies fastest.

    The product of no sweeps is the one trial that changes nothing.

    Raises:
        UserError: a path set by two of the sweeps, an empty sweep, or more than ``MOST_TRIALS``.
    """
    _check_paths(sweeps)
    _check_size(math.prod(map(len, sweeps)))
    # Sweeps over different paths, each without repetitions, have a product without them.
    return tuple(map(_merge, itertools.product(*map(_distinct, sweeps))))


def zipped(*sweeps: Sweep) -> Sweep:
    """The first trials of all sweeps as one trial, then the second ones, and so on.

    Raises:
        UserError: sweeps of different lengths, or a path set by two of them.
    """
    lengths = list(map(len, sweeps))
    if len(set(lengths)) > 1:
        raise UserError(
            f"sweeps of {' and '.join(map(str, lengths))} trials cannot be zipped; "
            "they must be equally long"
        )
    _check_paths(sweeps)
    return _distinct(map(_merge, zip(*sweeps, strict=True)))


def chain(*sweeps: Sweep) -> Sweep:
    """The trials of the first sweep, then those of the second, and so on.

    Raises:
        UserError: a trial that is in two of the sweeps.
    """
    return _distinct(itertools.chain(*sweeps))


def subsample(sweep: Sweep, count: int, seed: int = 0) -> Sweep:
    """``count`` different trials drawn at random, in the order they have in ``sweep``.

    Raises:
        UserError: a count below 1 or above the number of trials, or an impossible seed.
    """
    if not 1 <= count <= len(sweep):
        raise UserError(
            f"{count} trials cannot be drawn from {len(sweep)}; "
            f"the count must be from 1 to {len(sweep)}"
        )
    if not 0 <= seed < 2**32:
        raise UserError(f"the seed of a subsample is {seed}; it must be from 0 to {2**32 - 1}")
    drawn = np.random.RandomState(seed).choice(len(sweep), count, replace=False)
    return tuple(sweep[i] for i in sorted(map(int, drawn)))


def grid(axes: Mapping[str, Iterable[Any]] | None = None, **more: Iterable[Any]) -> Sweep:
    """The product of axes: ``grid({"hparams.dropout": (0, 0.5)}, seed=range(8))``.

    Args:
        axes: dotted path -> values; the last varies fastest.
        **more: further axes, after those of ``axes``, whose paths have no dots.
    """
    items = [*(axes or {}).items(), *more.items()]
    return product(*(axis(path, values) for path, values in items))


def _merge(trials: Iterable[Changes]) -> Changes:
    return {path: value for changes in trials for path, value in changes.items()}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _check_size(trials: int) -> None:
    if trials > MOST_TRIALS:
        raise UserError(f"a sweep of more than {MOST_TRIALS:,} trials; take fewer values")


def _check_paths(sweeps: Iterable[Sweep]) -> None:
    paths = [{path for changes in sweep for path in changes} for sweep in sweeps]
    for path, factors in Counter(itertools.chain(*paths)).items():
        if factors > 1:
            raise UserError(
                f"{path} is set by {factors} of the sweeps combined here; it must be in only one"
            )


def _distinct(trials: Iterable[Changes]) -> Sweep:
    """``trials`` as a sweep, refused if there are none or two alike.

    Values are compared as text, since ``override`` takes 3 and "3" for the same integer.
    """
    sweep = tuple(trials)
    seen: set[frozenset[tuple[str, str]]] = set()
    if not sweep:
        raise UserError("a sweep without trials; it needs at least one")
    for changes in sweep:
        key = frozenset((path, str(value)) for path, value in changes.items())
        if key in seen:
            raise UserError(f"the trial {_describe(changes)} is in the sweep twice; once is enough")
        seen.add(key)
    return sweep


def _describe(changes: Changes) -> str:
    text = ", ".join(f"{path}={value}" for path, value in changes.items())
    return " ".join(text.split()) or "without changes"
