"""Training steps that touch only the rows of tables that their batch looks up, exactly.

A vocabulary has twenty thousand words, a batch some six hundred.  A step on such a batch is the
step of a small model: its tables are the rows that occur, its inputs their positions among these
rows, and the optimiser's state is that of these rows.  :func:`step` cuts this small model out,
takes the plain step on it, and puts the rows back.  What the plain step would have done to all
other rows meanwhile, nothing but let the optimiser's averages decay, is caught up with when a row
is next looked up.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax


@dataclasses.dataclass(frozen=True)
class Lookup:
    """That inputs int[N, T] are ids of rows of tables float[V, E], and are used as nothing else.

    Attributes:
        trained: paths of the parameters that are such tables and change, as "embedding/table".
        fixed: of those that do not.
        idle: ``(average float[U, E], steps int32[U, 1], hparams) -> average``: what so many updates
            with gradient zero make of an array of the optimiser's state.  Such an update must leave
            the row itself as it is: true of SGD, Adagrad and Adadelta, not with momentum.
        columns: ``inputs int[N, T] -> int[N]``, in NumPy: how many leading columns of each input
            decide all of the model's output, so that a batch may be cut off after the most that one
            of its inputs needs; by default all.

    Row 0 stays row 0 in what is cut out, so that padding can be told from words.
    """

    trained: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    idle: Callable[[jax.Array, jax.Array, Any], jax.Array] = lambda average, steps, hparams: average
    columns: Callable[[np.ndarray], np.ndarray] | None = None


@struct.dataclass
class LazyState:
    """The optimiser's state, up to date for each row of a table since ``touched``.

    Attributes:
        optimizer: its own state.
        touched: int32[V], how many updates have been made to what it keeps of the row.
    """

    optimizer: Any
    touched: jax.Array


def start(lookup: Lookup, params: Any, opt_state: Any) -> Any:
    """The state of the optimiser before the first step."""
    if not lookup.trained:
        return opt_state
    return LazyState(opt_state, jnp.zeros(_rows_in_all(lookup, params), jnp.int32))


def step(
    plain: Callable[[Any, dict[str, jax.Array]], tuple[Any, Any]],
    lookup: Lookup,
    state: Any,
    batch: dict[str, jax.Array],
    hparams: Any,
    *,
    rows: int | None = None,
    axis_name: str | None = None,
) -> tuple[Any, Any]:
    """``plain(state, batch)``, computed on the rows that ``batch`` looks up.

    Args:
        plain: the step without tables in mind, ``(state, batch) -> (state, metrics)``.
        lookup: which parameters are tables.
        state: a :class:`~cnnjax.training.TrainState` whose ``opt_state`` is from :func:`start`.
        batch: with "inputs" int[N, T].
        hparams: for ``lookup.idle``.
        rows: at most so many are looked up, row 0 included; by default as many as there can be.
        axis_name: of the devices that have the other parts of the batch.

    Returns:
        What ``plain`` returns.
    """
    ids, count = batch["inputs"], _rows_in_all(lookup, state.params)
    everything = lax.all_gather(ids, axis_name, tiled=True) if axis_name else ids
    used, position = distinct(everything, count, rows or min(count, everything.size + 1))
    cut = _on_tables(lookup.trained + lookup.fixed, lambda table: table.at[used].get(mode="clip"))
    small = state.replace(params=cut(state.params), opt_state=state.opt_state)
    if lookup.trained:
        lazy = state.opt_state
        idle = (state.step - lazy.touched.at[used].get(mode="clip"))[:, None]
        catch_up = _on_tables(
            lookup.trained,
            lambda kept: lookup.idle(kept.at[used].get(mode="clip"), idle, hparams),
        )
        small = small.replace(opt_state=catch_up(lazy.optimizer))
    after, metrics = plain(small, batch | {"inputs": position[ids]})

    def put_back(whole: jax.Array, part: jax.Array) -> jax.Array:
        return whole.at[used].set(part, mode="drop", unique_indices=True)

    params = _on_tables(lookup.trained, put_back)(state.params, after.params)
    params = _on_tables(lookup.fixed, lambda whole, part: whole)(state.params, params)
    opt_state = after.opt_state
    if lookup.trained:
        opt_state = LazyState(
            _on_tables(lookup.trained, put_back)(lazy.optimizer, opt_state),
            put_back(lazy.touched, jnp.full(used.shape, after.step)),
        )
    return after.replace(params=params, opt_state=opt_state), metrics


def cut_out(lookup: Lookup, params: Any, ids: jax.Array, rows: int) -> tuple[Any, jax.Array]:
    """The parameters with the at most ``rows`` rows that ``ids`` look up, and ids among these."""
    used, position = distinct(ids, _rows_in_all(lookup, params), rows)
    cut = _on_tables(lookup.trained + lookup.fixed, lambda table: table.at[used].get(mode="clip"))
    return cut(params), position[ids]


def distinct(ids: jax.Array, count: int, rows: int) -> tuple[jax.Array, jax.Array]:
    """The different ids in the order of their first occurrence, id 0 before all.

    Args:
        ids: int[...], each from 0 to ``count`` - 1.
        count: V.
        rows: U, how many are different at most.

    Returns:
        int32[U] ids, followed by numbers from V on where they are fewer; and int32[V], for each of
        these ids its place among them.
    """
    ids = jnp.pad(ids.reshape(-1).astype(jnp.int32), (1, 0))
    at = jnp.arange(ids.size, dtype=jnp.int32)
    first = jnp.full(count, ids.size, jnp.int32).at[ids].min(at)
    is_first = first[ids] == at
    place = jnp.cumsum(is_first, dtype=jnp.int32) - 1
    used = count + jnp.arange(rows, dtype=jnp.int32)  # all different, and beyond the table
    used = used.at[jnp.where(is_first, place, rows)].set(ids, mode="drop", unique_indices=True)
    return used, place.at[first].get(mode="clip")


def columns(lookup: Lookup, inputs: np.ndarray) -> np.ndarray:
    """How many leading columns each of ``inputs`` int[N, T] needs: int[N]."""
    if lookup.columns is None:
        return np.full(len(inputs), inputs.shape[1])
    return lookup.columns(inputs)


def _on_tables(paths: Sequence[str], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of trees: ``function`` of the first's leaves at ``paths`` and the others' there.

    Other leaves are the last tree's.  An optimiser's arrays have the paths of their parameters
    behind their own names.
    """

    def leaf(path: Any, *leaves: Any) -> Any:
        name = "/" + "/".join(str(getattr(key, "key", getattr(key, "name", ""))) for key in path)
        return function(*leaves) if any(name.endswith("/" + p) for p in paths) else leaves[-1]

    return lambda *trees: jax.tree.map_with_path(leaf, *trees)


def _rows_in_all(lookup: Lookup, params: Any) -> int:
    table = params
    for key in (lookup.trained + lookup.fixed)[0].split("/"):
        table = table[key]
    return table.shape[0]
