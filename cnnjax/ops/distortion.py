"""Images under planar affine maps: the distortions that enlarge a training set."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates


def affine(
    images: jax.Array, matrices: jax.Array, shifts: jax.Array, background: float = 0.0
) -> jax.Array:
    """Each image under a map of its own, about its centre, bilinearly interpolated.

    The value at p is the image's at c + A (p - c) + t, with c the centre: A and t say where each
    pixel comes from.

    Args:
        images: float[N, H, W, C].
        matrices: A, float[N, 2, 2], on (row, column).
        shifts: t, float[N, 2], in pixels.
        background: the value beyond the edges.

    Returns:
        float[N, H, W, C].
    """
    height, width = images.shape[1:3]
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    from_centre = jnp.stack(jnp.mgrid[:height, :width]) - centre
    read = functools.partial(map_coordinates, order=1, mode="constant", cval=background)

    def one(image: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
        at = jnp.tensordot(matrix, from_centre, 1) + centre + shift[:, None, None]
        return jax.vmap(lambda channel: read(channel, at), -1, -1)(image)

    return jax.vmap(one)(images, matrices, shifts).astype(images.dtype)


def random_affine(
    keys: jax.Array,
    images: jax.Array,
    *,
    shift: jax.Array | float = 0.0,
    scaling: jax.Array | float = 0.0,
    squeezing: jax.Array | float = 0.0,
    shearing: jax.Array | float = 0.0,
    rotation: jax.Array | float = 0.0,
    background: float = 0.0,
) -> jax.Array:
    """Shift, scale, squeeze, shear and rotate every image at random.

    Every amount is drawn uniformly from ± the one given, which may be traced.

    Args:
        keys: key[N].
        images: float[N, H, W, C].
        shift: pixels, of rows and of columns.
        scaling: of both axes, as a logarithm: 0.1 is about 10 %.
        squeezing: of one axis while the other is stretched as much, as a logarithm.
        shearing: columns by which a row moves for each row from the centre.
        rotation: radians.
        background: the value beyond the edges.

    Returns:
        float[N, H, W, C].

    Source: LeCun et al. 1998, section III.A, which names the maps (without rotation) but not their
    amounts.
    """
    draws = jax.vmap(lambda key: jax.random.uniform(key, (6,), minval=-1, maxval=1))(keys)
    amounts = jnp.stack([jnp.asarray(a) for a in (scaling, squeezing, shearing, rotation)])
    size, squeezed, sheared, angle = (draws[:, 2:] * amounts[None]).T
    rows, columns, zero = jnp.exp(size + squeezed), jnp.exp(size - squeezed), jnp.zeros_like(size)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = _matrices(cos, -sin, sin, cos)
    matrices = turned @ _matrices(rows, zero, sheared, columns)
    return affine(images, matrices, draws[:, :2] * shift, background)


def random_shift(
    keys: jax.Array, images: jax.Array, most: int, background: float = 0.0
) -> jax.Array:
    """Every image moved by a random number of whole pixels along each axis.

    Args:
        keys: key[N]; all (2 ``most`` + 1)^2 moves are equally likely.
        images: float[N, H, W, C].
        most: pixels, at most, in each direction.
        background: the value beyond the edges.

    Returns:
        float[N, H, W, C].
    """
    pads = ((0, 0), (most, most), (most, most), (0, 0))
    padded = jnp.pad(images, pads, constant_values=background)

    def cut(key: jax.Array, image: jax.Array) -> jax.Array:
        down, right = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return lax.dynamic_slice(image, (down, right, 0), images.shape[1:])

    return jax.vmap(cut)(keys, padded)


def _matrices(*entries: jax.Array) -> jax.Array:
    """[[a, b], [c, d]] of each: four float[N] -> float[N, 2, 2]."""
    return jnp.stack(entries, -1).reshape(-1, 2, 2)
