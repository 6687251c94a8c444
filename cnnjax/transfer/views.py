"""What a network sees of an image: prepared, in other pixels, and in several random views."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax import ops
from cnnjax.models.lenet import BACKGROUND
from cnnjax.transfer.backbones import Backbone
from cnnjax.transfer.heads import read
from cnnjax.transfer.stages import features_of

Pixels = Literal["plain", "inverted", "shuffled"]
"""As they are; ink and background exchanged; in another order, the same for all images."""


def prepare(pixels: Pixels, network: Backbone, images: jax.Array) -> jax.Array:
    """Stored images [N, h, w, C] -> the network's inputs."""
    if pixels == "inverted":
        images = (255 if images.dtype == jnp.uint8 else 1) - images
    if pixels == "shuffled":
        height, width, channels = images.shape[1:]
        order = np.random.RandomState(0).permutation(height * width)
        images = images.reshape(len(images), -1, channels)[:, order].reshape(images.shape)
    return network.prepare(images)


def distort(
    amounts: Mapping[str, float], keys: jax.Array, inputs: jax.Array, hparams: Any = None
) -> jax.Array:
    """Inputs of a LeNet under :func:`cnnjax.ops.random_warp` of at most these amounts."""
    del hparams
    return ops.random_warp(keys, inputs, **amounts, background=BACKGROUND)


def features(
    network: Backbone,
    feature: str,
    pixels: Pixels,
    views: int,
    amounts: Mapping[str, float],
    initial: Mapping[str, jax.Array],
    images: jax.Array,
) -> jax.Array:
    """Stored images [N, h, w, C] -> what a head reads of each of their views, [N, views, F].

    Args:
        network: with the feature.
        feature: its name.
        pixels: of the images.
        views: of each image: itself, and ``views`` - 1 distorted ones.
        amounts: of the distortions.
        initial: path -> array of the backbone's variables.
        images: N of them.
    """
    inputs = prepare(pixels, network, images)
    seen = inputs[:, None]
    if views > 1:
        others = distort(
            amounts, _keys(images, views - 1), jnp.repeat(inputs, views - 1, axis=0)
        ).reshape(len(images), views - 1, *inputs.shape[1:])
        seen = jnp.concatenate([seen, others], axis=1)
    flat = seen.reshape(-1, *inputs.shape[1:])
    variables = network.variables(initial, flat.shape[1:])
    found = features_of(network.network, variables, flat)[feature]
    return read(found, network.reading).reshape(len(images), views, -1)


def any_view(keys: jax.Array, features: jax.Array, hparams: Any) -> jax.Array:
    """float[N, views, F] -> float[N, 1, F]: one of the views of each, at random."""
    del hparams
    draw = lambda key, views: jax.random.choice(key, views, (1,))
    return jax.vmap(draw)(keys, features)


def _keys(images: jax.Array, count: int) -> jax.Array:
    """key[N * count], functions of the image: its views are the same wherever it stands."""
    levels = images
    if levels.dtype != jnp.uint8:
        levels = lax.bitcast_convert_type(levels, jnp.uint32)
    flat = levels.reshape(len(images), -1).astype(jnp.uint32)
    factors = 2 * jnp.arange(flat.shape[1], dtype=jnp.uint32)[None] + 1
    split = lambda seed: jax.random.split(jax.random.key(seed), count)
    return jax.vmap(split)((flat * factors).sum(1)).reshape(-1)
