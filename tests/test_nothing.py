"""No channels, maps, classes or words: an error that names them."""

import jax
import jax.numpy as jnp
import pytest

from cnnjax import layers, ops
from cnnjax.models import FullyConnected, LeNet5, SentenceCNN

IMAGES, GREY = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 28, 28, 1))
WITHOUT_CHANNELS = jnp.ones((2, 8, 8, 0))
SENTENCES = jnp.ones((2, 9), jnp.int32)


def started(module, inputs):
    return lambda: module.init(jax.random.key(0), inputs)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: ops.conv(IMAGES, jnp.ones((3, 3, 3, 0))), "0 output map"),
        (lambda: ops.conv(WITHOUT_CHANNELS, jnp.ones((3, 3, 0, 4))), "0 input channel"),
        (lambda: ops.conv_pool(IMAGES, jnp.ones((3, 3, 3, 0))), "0 output map"),
        (lambda: ops.conv_pool(WITHOUT_CHANNELS, jnp.ones((3, 3, 0, 4))), "0 input channel"),
        (lambda: ops.local_conv(IMAGES, jnp.ones((6, 6, 3, 3, 3, 0))), "0 output map"),
        (lambda: ops.enlarge(IMAGES, 0), "factor is 0"),
        (lambda: ops.resize_by_area(IMAGES, 0), "size is 0"),
        (started(layers.Conv(0, 3), IMAGES), "features is 0"),
        (started(layers.ConvPool(0, 3), IMAGES), "features is 0"),
        (started(layers.LocalConv(0, 3), IMAGES), "features is 0"),
        (started(layers.Conv(4, 3), WITHOUT_CHANNELS), "0 input channel"),
        (started(layers.RadialBasis(()), jnp.ones((2, 0))), "centres is"),
        (started(FullyConnected((0,)), GREY), r"hidden\[0\] is 0"),
        (started(FullyConnected((3,), classes=0), GREY), "classes is 0"),
        (started(FullyConnected((3,)), WITHOUT_CHANNELS), "no inputs"),
        (started(LeNet5(), jnp.ones((2, 28, 28, 0))), "0 input channel"),
        (started(SentenceCNN(10, 2, maps=0), SENTENCES), "maps is 0"),
        (started(SentenceCNN(0, 2), SENTENCES), "vocabulary is 0"),
        (started(SentenceCNN(10, 0), SENTENCES), "classes is 0"),
        (started(SentenceCNN(10, 2, embedding=0), SENTENCES), "embedding is 0"),
    ],
)
def test_it_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
