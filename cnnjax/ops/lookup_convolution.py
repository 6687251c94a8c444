"""Convolution over the rows that ids look up in a table, and its maximum over time.

Sentences repeat words: a batch of 50 from MR has 1,050 words and 620 different ones.  What a kernel
makes of a word does not depend on where the word stands, so on CPU each row of the table is
projected once, by all offsets of all kernels, and the convolution is a sum of looked-up
projections.  Its gradient needs no convolution either: of every map only the winning window has
one, and that window's words name the rows it goes to.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.convolution import conv
from cnnjax.ops.lowerings import choose


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
        gradient goes.

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
        if kernel.ndim != 3 or kernel.shape[1] != table.shape[1]:
            raise ValueError(
                f"a kernel over rows of {table.shape[1]} elements is [w, {table.shape[1]}, F], not "
                f"{kernel.shape}"
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
        terms = [
            lax.slice_in_dim(rows, first + i * maps, first + (i + 1) * maps, axis=1)[
                ids[:, i : i + count]
            ]
            for i in range(window)
        ]
        # The barriers keep the sum from being computed twice, for the maximum and its position.
        y = lax.optimization_barrier(functools.reduce(jnp.add, terms))
        largest = lax.optimization_barrier(y.max(1))
        at = lax.broadcasted_iota(jnp.int32, y.shape, 1)
        winners.append(jnp.where(y == largest[:, None], at, count).min(1))
        maxima.append(largest)
        first += window * maps
    return jnp.concatenate(maxima, axis=1), jnp.concatenate(winners, axis=1)


def _forward(table, ids, kernels):
    maxima, winners = _projected(table, ids, kernels)
    return (maxima, winners), (table, ids, kernels, winners)


def _backward(residuals, cotangents):
    table, ids, kernels, winners = residuals
    gradient, _ = cotangents
    projections = sum(kernel.shape[0] * kernel.shape[2] for kernel in kernels)
    targets, values, first, column = [], [], 0, 0
    for window, _, maps in (kernel.shape for kernel in kernels):
        columns = slice(column, column + maps)
        for i in range(window):
            row = jnp.take_along_axis(ids, winners[:, columns] + i, axis=1)
            target = row * projections + (first + i * maps) + jnp.arange(maps)[None]
            targets.append(target.reshape(-1))
            values.append(gradient[:, columns].reshape(-1))
        first, column = first + window * maps, column + maps
    rows = jnp.zeros(table.shape[0] * projections, gradient.dtype)
    rows = rows.at[jnp.concatenate(targets)].add(jnp.concatenate(values), mode="promise_in_bounds")
    rows = lax.optimization_barrier(rows.reshape(-1, projections))
    by_offset = lax.dot_general(table, rows, (((0,), (0,)), ((), ())))
    gradients, first = [], 0
    for window, channels, maps in (kernel.shape for kernel in kernels):
        block = by_offset[:, first : first + window * maps].reshape(channels, window, maps)
        gradients.append(block.transpose(1, 0, 2))
        first += window * maps
    to_table = lax.dot_general(rows, _by_offset(kernels), (((1,), (1,)), ((), ())))
    return to_table, None, tuple(gradients)


_projected.defvjp(_forward, _backward)


def _by_offset(kernels: tuple) -> jax.Array:
    """All kernels as one matrix [E, sum of w * F]: every offset of the first kernel first."""
    flat = [kernel.transpose(1, 0, 2).reshape(kernel.shape[1], -1) for kernel in kernels]
    return jnp.concatenate(flat, axis=1)
