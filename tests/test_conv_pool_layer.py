"""ConvPool, the layer: beside Conv and the pooling of its maps, and with Subsample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from cnnjax.layers import Conv, ConvPool, Subsample
from tests.agreement import assert_agree, operands, quickly

LAYERS = {
    "blocked": ((2, 9, 8, 3), {}),
    "same": ((2, 9, 8, 3), {"padding": "same", "window": (3, 2), "activation": jnp.sin}),
    "table": ((2, 7, 8, 3), {"connections": ((0, 1), (2,), (2, 0, 1), (1,)), "pool": "sum"}),
    "shared kernel": ((2, 7, 8, 3), {"shared_kernel": True, "activation": ops.scaled_tanh}),
    "bias per unit": ((2, 6, 7, 3), {"bias": "unit"}),
    "no bias": ((2, 6, 7, 3), {"bias": "none", "pool": "mean"}),
    "strides": ((2, 11, 12, 3), {"strides": 2}),
    "1-D": ((2, 9, 3), {}),
}
every_layer = pytest.mark.parametrize("shape, options", list(LAYERS.values()), ids=list(LAYERS))


def without_pooling(options):
    """Those of ConvPool's options that Conv has, too."""
    return {k: v for k, v in options.items() if k not in ("activation", "pool", "window")}


def layer_and_variables(shape, options):
    """A ConvPool, inputs, and random values for all its parameters, biases, too."""
    layer, (x,) = ConvPool(4, 3, **options), operands(shape)
    random = np.random.default_rng(1)
    draw = lambda p: (0.3 * random.normal(size=p.shape)).astype(p.dtype)
    return layer, x, jax.tree.map(draw, jax.eval_shape(layer.init, jax.random.key(0), x))


@every_layer
def test_the_layer_gives_the_pooled_maps_and_the_maps(shape, options):
    layer, x, variables = layer_and_variables(shape, options)
    conv = Conv(4, 3, **without_pooling(options))
    pool = getattr(ops, f"{layer.pool}_pool")

    @quickly
    def expected(*operands):
        maps = layer.activation(conv.apply(*operands))
        return pool(maps, layer.window), maps

    assert_agree(quickly(layer.apply)(variables, x), expected(variables, x))


@every_layer
def test_the_layer_has_the_parameters_of_conv(shape, options):
    layers = ConvPool(4, 3, **options), Conv(4, 3, **without_pooling(options))
    key, x = jax.random.key(3), jax.ShapeDtypeStruct(shape, jnp.float32)
    found, expected = (jax.eval_shape(layer.init, key, x) for layer in layers)
    assert found == expected


def test_the_layer_starts_as_conv_does():
    layers = (kind(4, 3, connections=((0, 1), (2,), (2, 0), (1, 2))) for kind in (ConvPool, Conv))
    start = lambda key: [layer.init(key, jnp.zeros((1, 4, 5, 3))) for layer in layers]
    found, expected = quickly(start)(jax.random.key(3))
    assert np.any(found["params"]["kernel"])
    assert_agree(found, expected, 0)


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


@pytest.mark.parametrize("pool", ["max", "mean", "sum"])
def test_maps_that_are_not_used_cost_nothing(pool):
    layer, x, variables = layer_and_variables((2, 8, 8, 1), {"pool": pool})
    assert "convolution(" in compiled(layer.apply, variables, x)
    pooled = lambda variables, x: layer.apply(variables, x)[0]
    assert "convolution(" not in compiled(pooled, variables, x)


def test_pooled_maps_that_are_not_used_cost_nothing():
    layer, x, variables = layer_and_variables((2, 8, 8, 1), {})
    assert "dot(" in compiled(layer.apply, variables, x)
    maps = lambda variables, x: layer.apply(variables, x)[1]
    assert "dot(" not in compiled(maps, variables, x)


def test_subsampling_of_sums_is_that_of_the_maps():
    options = {"pool": "sum", "window": (3, 2), "activation": ops.scaled_tanh}
    layer, x, variables = layer_and_variables((2, 9, 9, 2), options)
    coefficient, bias = operands((4,), (4,))
    subsample = lambda *inputs, **options: Subsample((3, 2)).apply(
        {"params": {"coefficient": coefficient, "bias": bias}}, *inputs, **options
    )

    @quickly
    def both(variables, x):
        sums, maps = layer.apply(variables, x)
        return subsample(sums, summed=True), subsample(maps)

    assert_agree(*both(variables, x))
