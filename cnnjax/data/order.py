"""The order of the examples: a function of (seed, epoch), computed where it is used."""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.jit, static_argnames=("count", "batch_size", "width"))
def epoch_rows(
    key: jax.Array, epoch: int, *, count: int, batch_size: int, width: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """The shuffled batches of one epoch.

    Args:
        key: the run's "order" stream.
        epoch: 0, 1, ...
        count: N, the number of examples.
        batch_size: B, examples in a batch; the last batch has what is left.
        width: W >= B, the columns of the result; more than B where devices need an even share.

    Returns:
        int32[S, W] row indices, and float32[S, W] weights that are 0 where there is no example.
        Every example occurs exactly once with weight 1.
    """
    order = jax.random.permutation(jax.random.fold_in(key, epoch), count)
    steps = -(-count // batch_size)
    present = jnp.arange(steps * batch_size) < count
    rows = jnp.pad(order, (0, steps * batch_size - count)).astype(jnp.int32)
    shape, columns = (steps, batch_size), ((0, 0), (0, (width or batch_size) - batch_size))
    return (
        jnp.pad(rows.reshape(shape), columns),
        jnp.pad(present.astype(jnp.float32).reshape(shape), columns),
    )


@functools.partial(jax.jit, static_argnames=("batch_size", "width", "regroup"))
def bucketed_rows(
    key: jax.Array,
    epoch: int,
    buckets: jax.Array,
    *,
    batch_size: int,
    width: int | None = None,
    regroup: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """The batches of one epoch, each of examples of one kind as far as there are enough.

    The examples are shuffled, put together by kind, smallest kind first, and cut into batches;
    then the batches are shuffled.  Which examples of a kind share a batch is thus random, and so is
    when it comes.  The batch that has what is left is one of the last kind.

    Args:
        key, epoch, batch_size, width: as in :func:`epoch_rows`.
        buckets: int[N], of every example; all the same for no difference.
        regroup: compose the batches anew in every epoch; otherwise as in the first.

    Returns:
        As :func:`epoch_rows`.
    """
    rows, weights = epoch_rows(
        key, epoch if regroup else 0, count=len(buckets), batch_size=len(buckets), width=None
    )
    order = rows[0][jnp.argsort(buckets[rows[0]], stable=True)]
    steps = -(-len(buckets) // batch_size)
    missing = steps * batch_size - len(buckets)
    columns = ((0, 0), (0, (width or batch_size) - batch_size))
    arrays = (
        jnp.pad(jnp.pad(array, (0, missing)).reshape(steps, batch_size), columns)
        for array in (order, weights[0])
    )
    turns = jax.random.fold_in(jax.random.fold_in(key, epoch), steps)
    turn = jax.random.permutation(turns, steps)
    rows, weights = (array[turn] for array in arrays)
    return rows, weights
