"""Convolution over the rows that ids look up in a table, and its maximum over time.

Sentences repeat words: a batch of 50 from MR has 1,050 words and 620 different ones.  What a kernel
makes of a word does not depend on where the word stands, so on CPU each row of the table is
projected once, by all offsets of all kernels, and the convolution is a sum of looked-up
projections.  Its gradient needs no convolution either: of every map only the winning window has
one, that window's words name the rows it goes to, and the kernel's is the sum of these rows.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.convolution import conv
from cnnjax.ops.lowerings.choice import choose

# With more rows than that for every sequence, adding up the winning words is faster than the
# product of all rows with their gradients, nearly all of them zero (benchmarks/README.md).
_ROWS_A_SEQUENCE = 3


def max_of_lookup_conv(
    table: jax.Array, ids: jax.Array, kernels: Sequence[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The largest value over time of ``conv(table[ids], kernel)``, for several kernels.

    Args:
        table: float[V, E].
        ids: int[N, T], rows of the table.
        kernels: float[w, E, F], each with a window w and a number of maps F of its own, w <= T.

    Returns:
        float[N, M] maxima and int32[N, M] winners, the maps of the first kernel first.  A winner is
        the position of the window with the maximum, of equals the first, to which all of the
        gradient goes; where there is a NaN, which is the maximum then, of the first NaN.

    Raises:
        ValueError: shapes that do not fit each other, or a window longer than T.

    On CPU each row of the table is projected once where the table has no more rows than ``ids`` has
    entries; otherwise, and on other platforms, the rows are looked up first.

    Source: Kim 2014, section 2, equations 2 to 4 (without the bias and the function, which commute
    with the maximum where the function does not decrease).
    """
    kernels = tuple(kernels)
    check_kernels(table, ids, kernels)
    if table.shape[0] > ids.size:
        return _looked_up(table, ids, kernels)
    return choose(table, ids, kernels, plain=_looked_up, cpu=_projected)


def check_kernels(table: jax.Array, ids: jax.Array, kernels: Sequence[jax.Array]) -> None:
    """Raise ValueError where a table, ids and kernels do not fit each other."""
    if table.ndim != 2 or ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"a table float[V, E] is looked up by ids int[N, T], not {table.shape} by "
            f"{ids.dtype}{list(ids.shape)}"
        )
    for kernel in kernels:
        if kernel.ndim != 3 or kernel.shape[1] != table.shape[1] or not kernel.size:
            raise ValueError(
                f"a kernel over rows of {table.shape[1]} elements is [w, {table.shape[1]}, F], not "
                f"{kernel.shape}; F is at least 1"
            )
        if not 1 <= kernel.shape[0] <= ids.shape[1]:
            raise ValueError(
                f"a window of {kernel.shape[0]} does not fit into sequences of {ids.shape[1]}"
            )


def _looked_up(table: jax.Array, ids: jax.Array, kernels: tuple) -> tuple[jax.Array, jax.Array]:
    """The plain lowering."""
    x = table[ids]
    maxima, winners = [], []
    for kernel in kernels:
        y = conv(x, kernel)
        at = jnp.argmax(y, axis=1).astype(jnp.int32)
        # Taken from y, not computed by max: on a tie all of the gradient goes to the first.
        maxima.append(jnp.take_along_axis(y, at[:, None], axis=1)[:, 0])
        winners.append(at)
    return jnp.concatenate(maxima, axis=1), jnp.concatenate(winners, axis=1)


@jax.custom_vjp
def _projected(table: jax.Array, ids: jax.Array, kernels: tuple) -> tuple[jax.Array, jax.Array]:
    """Each row projected once."""
    rows = lax.optimization_barrier(table @ _by_offset(kernels))
    maxima, winners, first = [], [], 0
    for window, _, maps in (kernel.shape for kernel in kernels):
        count = ids.shape[1] - window + 1
        seen = rows[:, first : first + window * maps][ids]
        terms = [seen[:, i : i + count, i * maps : (i + 1) * maps] for i in range(window)]
        # The barriers keep the sum from being computed twice, for the maximum and its position.
        y = lax.optimization_barrier(functools.reduce(jnp.add, terms))
        largest = lax.optimization_barrier(y.max(1))
        at = lax.broadcasted_iota(jnp.int32, y.shape, 1)
        winners.append(jnp.where((y == largest[:, None]) | (y != y), at, count).min(1))
        maxima.append(largest)
        first += window * maps
    return jnp.concatenate(maxima, axis=1), jnp.concatenate(winners, axis=1)


def _forward(table, ids, kernels):
    maxima, winners = _projected(table, ids, kernels)
    return (maxima, winners), (table, ids, kernels, winners)


def _backward(residuals, cotangents):
    table, ids, kernels, winners = residuals
    rows, values = _winning_words(ids, winners, cotangents[0], kernels)
    of_rows = _scattered(rows, values, table.shape[0])
    if table.shape[0] > _ROWS_A_SEQUENCE * len(ids):
        of_offsets = _weighed_sum(table, rows, values)
    else:
        of_offsets = lax.dot_general(of_rows, table, (((0,), (0,)), ((), ())))
    of_kernels, first = [], 0
    for window, channels, maps in (kernel.shape for kernel in kernels):
        block = of_offsets[first : first + window * maps].reshape(window, maps, channels)
        of_kernels.append(block.swapaxes(1, 2))
        first += window * maps
    of_table = lax.dot_general(of_rows, _by_offset(kernels), (((1,), (1,)), ((), ())))
    return of_table, None, tuple(of_kernels)


_projected.defvjp(_forward, _backward)


def _by_offset(kernels: tuple) -> jax.Array:
    """All kernels as one matrix [E, P], P the sum of w * F: all offsets of the first come first."""
    return jnp.concatenate([offset for kernel in kernels for offset in kernel], axis=1)


def _winning_words(
    ids: jax.Array, winners: jax.Array, gradient: jax.Array, kernels: tuple
) -> tuple[jax.Array, jax.Array]:
    """For each column of :func:`_by_offset` the word that won with it, and the gradient of that.

    Args:
        ids: int[N, T].
        winners: int32[N, M], positions of windows.
        gradient: float[N, M].
        kernels: as in :func:`max_of_lookup_conv`.

    Returns:
        int32[N, P] rows of the table, and float[N, P].
    """
    rows, values, first = [], [], 0
    for window, _, maps in (kernel.shape for kernel in kernels):
        columns = slice(first, first + maps)
        for i in range(window):
            rows.append(jnp.take_along_axis(ids, winners[:, columns] + i, axis=1))
            values.append(gradient[:, columns])
        first += maps
    return jnp.concatenate(rows, axis=1).astype(jnp.int32), jnp.concatenate(values, axis=1)


def _scattered(rows: jax.Array, values: jax.Array, count: int) -> jax.Array:
    """int32[N, P], float[N, P] -> the gradient of ``table @ _by_offset(kernels)``: float[V, P]."""
    columns = rows.shape[1]
    flat = (rows * columns + jnp.arange(columns)[None]).reshape(-1)
    zeros = jnp.zeros(count * columns, values.dtype)
    whole = zeros.at[flat].add(values.reshape(-1), mode="promise_in_bounds")
    return lax.optimization_barrier(whole.reshape(count, columns))


def _weighed_sum(table: jax.Array, rows: jax.Array, values: jax.Array) -> jax.Array:
    """The sum over n of ``values[n, p] * table[rows[n, p]]``.

    float[V, E], int32[N, P], float[N, P] -> float[P, E], in at least float32 until the end.
    """
    exact = jnp.promote_types(table.dtype, jnp.float32)

    def add(total, sentence):
        row, value = sentence
        return total + value[:, None].astype(exact) * table[row].astype(exact), None

    zeros = jnp.zeros((rows.shape[1], table.shape[1]), exact)
    return lax.scan(add, zeros, (rows, values), unroll=10)[0].astype(table.dtype)
