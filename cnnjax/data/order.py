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
