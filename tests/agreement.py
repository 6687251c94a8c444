"""How a lowering is held against the plain one: operands, gradients, tolerances and texts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import ops

# The optimiser of machine code is most of these tests' time; some have it as users do.
quickly, thoroughly = (
    functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": level})
    for level in (0, 3)
)


def operands(*shapes, dtype="float32"):
    """Normal arrays; a kernel (all but the first) scaled so that it keeps the variance."""
    random = np.random.default_rng(0)
    scales = [1, *(math.prod(shape[:-1]) ** -0.5 for shape in shapes[1:])]
    return tuple(
        np.asarray(scale * random.normal(size=shape), jnp.dtype(dtype))
        for scale, shape in zip(scales, shapes, strict=True)
    )


def weigh(y):
    """A number that depends on every element of y in its own way."""
    return jnp.sum(y * np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype))


def weighed_gradients(function, *argnums):
    return jax.grad(lambda *operands: weigh(function(*operands)), argnums)


def with_gradients(function):
    """operands -> (the function's value, the gradients of its weighed sum)."""

    def both(*operands):
        value, backward = jax.vjp(function, *operands)
        return value, backward(jax.grad(weigh)(value))

    return both


def plainly(function, *arguments):
    with ops.plain_lowerings():
        return function(*arguments)


def assert_agree(actual, expected, tolerance=1e-5):
    """Trees of arrays, each equal up to a fraction of its largest element."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max(initial=0))


def assert_is_plain(function, *shapes, jit=quickly):
    """Value and gradients, in float32 and in float64, are those of the plain lowering."""
    both = with_gradients(function)
    with jax.enable_x64(True):
        arguments = operands(*shapes, dtype="float64")
        expected = plainly(quickly(both), *arguments)
        assert_agree(quickly(both)(*arguments), expected, 1e-12)
    assert_agree(jit(both)(*operands(*shapes)), jax.tree.map(np.float32, expected))


def lowered(function, arguments, platform):
    """The text of a function as it is compiled for a platform."""
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
