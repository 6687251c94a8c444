"""Images [N, H, W, C]: their grey levels and their size."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.ops.windows import check_at_least_one


def intensity(images: jax.Array) -> jax.Array:
    """Grey levels as data sets and pictures have them, brought to one scale.

    uint8[N, H, W, C] in 0..255, or float[N, H, W, C] in 0..1 -> float32[N, H, W, C] in 0..1.
    """
    levels = images.astype(jnp.float32)
    return levels * (1 / 255) if images.dtype == jnp.uint8 else levels


def standardize(images: jax.Array, mean: Sequence[float], deviation: Sequence[float]) -> jax.Array:
    """Stored images [N, H, W, 1 or C] -> float32[N, H, W, C]: (levels in 0..1 - mean) / deviation.

    Grey images have their level in every channel.
    """
    levels = intensity(images)
    levels = jnp.broadcast_to(levels, (*levels.shape[:-1], len(mean)))
    per_channel = (1, 1, 1, len(mean))
    centre, scale = (jnp.asarray(v).reshape(per_channel) for v in (mean, deviation))
    return (levels - centre) / scale


def resize_by_area(images: jax.Array, size: int) -> jax.Array:
    """float[N, H, W, C] -> float[N, size, size, C]: each output is the mean of the area it covers.

    A size that is a multiple of the images' repeats pixels; their own leaves them as they are.
    Half types are averaged in float32.
    """
    check_at_least_one(size, "size")
    down, right = (_overlaps(side, size) for side in images.shape[1:3])
    return jnp.einsum("nhwc,ih,jw->nijc", images, down, right).astype(images.dtype)


def enlarge(images: jax.Array, factor: int) -> jax.Array:
    """float[N, H, W, C] -> float[N, factor H, factor W, C], bilinearly: two matrix products.

    Half types are weighed in float32.
    """
    check_at_least_one(factor, "factor")
    enlarged = images
    for axis in (1, 2):
        matrix = _bilinear(images.shape[axis], factor)
        enlarged = jnp.moveaxis(jnp.tensordot(enlarged, matrix, ((axis,), (1,))), -1, axis)
    return enlarged.astype(images.dtype)


def _bilinear(size: int, factor: int) -> np.ndarray:
    """float32[size * factor, size]: each row weighs the two nearest sources of one output."""
    at = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    distance = np.abs(at[:, None] - np.arange(size)[None])
    return np.maximum(0, 1 - distance).astype(np.float32)


def _overlaps(size: int, outputs: int) -> np.ndarray:
    """float32[outputs, size]: which share of each output each source is."""
    edges = np.arange(outputs + 1) * (size / outputs)
    overlap = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(
        edges[:-1, None], np.arange(size)
    )
    return (np.maximum(overlap, 0) * (outputs / size)).astype(np.float32)
