"""Images under planar maps: the distortions that enlarge a training set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates

from cnnjax.ops.lowerings.choice import choose

_CONTROLS = 6  # points along each axis that are moved at random


def warp(
    images: jax.Array,
    matrices: jax.Array,
    shifts: jax.Array,
    displacements: jax.Array | None = None,
    background: float = 0.0,
) -> jax.Array:
    """Each image under a map of its own, about its centre, bilinearly interpolated.

    The value at p is the image's at c + A (p - c) + t + u(p), with c the centre: A, t and u say
    where each pixel comes from.

    Args:
        images: float[N, H, W, C].
        matrices: A, float[N, 2, 2], on (row, column).
        shifts: t, float[N, 2], in pixels.
        displacements: u, float[N, 2, H, W], in pixels; by default none.
        background: the value beyond the edges.

    Returns:
        float[N, H, W, C].
    """
    height, width = images.shape[1:3]
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    from_centre = jnp.stack(jnp.mgrid[:height, :width]) - centre[:, None, None]
    at = jnp.einsum("nij,jhw->nihw", matrices, from_centre)
    at += (centre[None] + shifts)[..., None, None]
    if displacements is not None:
        at += displacements
    read = functools.partial(map_coordinates, order=1, mode="constant", cval=background)
    channels = jax.vmap(read, in_axes=(-1, None), out_axes=-1)
    # On CPU one image after another: XLA fuses what it makes of all at once into each of its
    # readers, which compute it anew (0.9 of the 2.5 ms of a step of LeNet-5 on 16 images).
    one_by_one = lambda *all_images: lax.map(lambda each: channels(*each), all_images)
    warped = choose(images, at, plain=jax.vmap(channels), cpu=one_by_one)
    return warped.astype(images.dtype)


def random_warp(
    keys: jax.Array,
    images: jax.Array,
    *,
    shift: jax.Array | float = 0.0,
    scaling: jax.Array | float = 0.0,
    squeezing: jax.Array | float = 0.0,
    shearing: jax.Array | float = 0.0,
    rotation: jax.Array | float = 0.0,
    bending: jax.Array | float = 0.0,
    background: float = 0.0,
) -> jax.Array:
    """Shift, scale, squeeze, shear, rotate and bend every image at random.

    Every amount is drawn uniformly from ± the one given, which may be traced.

    Args:
        keys: key[N].
        images: float[N, H, W, C].
        shift: pixels, of rows and of columns.
        scaling: of both axes, as a logarithm: 0.1 is about 10 %.
        squeezing: of one axis while the other is stretched as much, as a logarithm.
        shearing: columns by which a row moves for each row from the centre.
        rotation: radians.
        bending: pixels by which each of 6x6 control points moves, all others with their
            neighbours: the elastic distortions of Simard et al. 2003 on a coarse grid.
        background: the value beyond the edges.

    Returns:
        float[N, H, W, C].

    Source: LeCun et al. 1998, section III.C.4, which names the planar maps (without rotation) but
    not their amounts.
    """
    count = 6 + 2 * _CONTROLS**2
    draws = jax.vmap(lambda key: jax.random.uniform(key, (count,), minval=-1, maxval=1))(keys)
    amounts = jnp.stack([jnp.asarray(a) for a in (scaling, squeezing, shearing, rotation)])
    size, squeezed, sheared, angle = (draws[:, 2:6] * amounts[None]).T
    rows, columns, zero = jnp.exp(size + squeezed), jnp.exp(size - squeezed), jnp.zeros_like(size)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turned = _matrices(cos, -sin, sin, cos)
    matrices = turned @ _matrices(rows, zero, sheared, columns)
    controls = draws[:, 6:].reshape(-1, 2, _CONTROLS, _CONTROLS) * bending
    down, right = (_between_controls(side) for side in images.shape[1:3])
    displacements = jnp.einsum("ncij,hi,wj->nchw", controls, down, right)
    return warp(images, matrices, draws[:, :2] * shift, displacements, background)


def _between_controls(size: int) -> np.ndarray:
    """float32[size, controls]: what each control point gives to each pixel, smoothly: cosines."""
    at = np.arange(size) * (_CONTROLS - 1) / max(size - 1, 1)
    distance = at[:, None] - np.arange(_CONTROLS)[None]
    weights = np.cos(np.pi / 2 * np.clip(distance, -1, 1)) ** 2
    return weights.astype(np.float32)


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
