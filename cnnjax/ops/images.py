"""Images [N, H, W, C]: grey levels, size, and random shifts."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def intensity(images: jax.Array) -> jax.Array:
    """Grey levels as data sets and pictures have them, brought to one scale.

    uint8[N, H, W, C] in 0..255, or float[N, H, W, C] in 0..1 -> float32[N, H, W, C] in 0..1.
    """
    levels = images.astype(jnp.float32)
    return levels * (1 / 255) if images.dtype == jnp.uint8 else levels


def resize_by_area(images: jax.Array, size: int) -> jax.Array:
    """float[N, H, W, C] -> float[N, size, size, C]: each output is the mean of the area it covers.

    A size that is a multiple of the images' repeats pixels; their own leaves them as they are.
    """
    down, right = (_overlaps(side, size) for side in images.shape[1:3])
    return jnp.einsum("nhwc,ih,jw->nijc", images, down, right)


def _overlaps(size: int, outputs: int) -> np.ndarray:
    """float32[outputs, size]: which share of each output each source is."""
    edges = np.arange(outputs + 1) * (size / outputs)
    overlap = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(
        edges[:-1, None], np.arange(size)
    )
    return (np.maximum(overlap, 0) * (outputs / size)).astype(np.float32)


def random_shift(images: jax.Array, keys: jax.Array, most: int, fill: float) -> jax.Array:
    """Every image moved by a random number of whole pixels along each axis.

    Args:
        images: float[N, H, W, C].
        keys: key[N], one random key per image: all (2 ``most`` + 1)^2 moves are equally likely.
        most: pixels, at most, in each direction.
        fill: what comes in at the edges.

    Returns:
        float[N, H, W, C].
    """
    around = (most, most)
    padded = jnp.pad(images, ((0, 0), around, around, (0, 0)), constant_values=fill)

    def moved(image: jax.Array, key: jax.Array) -> jax.Array:
        down, right = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return lax.dynamic_slice(image, (down, right, 0), images.shape[1:])

    return jax.vmap(moved)(padded, keys)
