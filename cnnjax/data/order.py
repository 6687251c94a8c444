"""The order of the examples: a function of (seed, epoch), computed where it is used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


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
    return _in_batches(order, batch_size, width or batch_size)


def sequential_rows(
    count: int, batch_size: int, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The same batches unshuffled, as for evaluation."""
    rows, weights = _in_batches(jnp.arange(count), batch_size, width or batch_size)
    return np.asarray(rows), np.asarray(weights)


def _in_batches(order: jax.Array, batch_size: int, width: int) -> tuple[jax.Array, jax.Array]:
    count = order.shape[0]
    steps = -(-count // batch_size)
    present = jnp.arange(steps * batch_size) < count
    rows = jnp.pad(order, (0, steps * batch_size - count)).astype(jnp.int32)
    shape, columns = (steps, batch_size), ((0, 0), (0, width - batch_size))
    return (
        jnp.pad(rows.reshape(shape), columns),
        jnp.pad(present.astype(jnp.float32).reshape(shape), columns),
    )
