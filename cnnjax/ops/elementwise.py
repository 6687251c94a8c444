"""Functions of one element at a time.

On CPU, XLA vectorises the innermost axis, if it is long, and a LeNet's four or six maps are short:
over rows that hold whole images scaled_tanh takes down to a sixth of the time
(benchmarks/README.md, "How the lowerings are chosen").  With one scale a map, the long rows are of
examples.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnjax.ops.lowerings.choice import choose

Activation = Callable[[jax.Array], jax.Array]

FEW_MAPS = 16  # up to so many, examples are innermost on CPU
_AMPLITUDE, _SLOPE = 1.7159, 2 / 3


@jax.custom_jvp
def scaled_tanh(a: jax.Array) -> jax.Array:
    """The squashing function f(a) = 1.7159 tanh(2a / 3), float[...] -> float[...].

    Its constants make f(1) = 1 and f(-1) = -1, with the largest curvature there.

    Source: LeCun et al. 1998, section II.B, equation 6 and appendix A.
    """
    squash = lambda a: _AMPLITUDE * jnp.tanh(_SLOPE * a)
    if a.ndim < 3:
        return squash(a)

    def over_rows(a):
        return squash(a.reshape(a.shape[0], math.prod(a.shape[1:]))).reshape(a.shape)

    return choose(a, plain=squash, cpu=over_rows)


@scaled_tanh.defjvp
def _(primals, tangents):
    # By the value, not by tanh: one array is kept for the gradient instead of two.  As a product
    # of differences it is never negative, whatever the rounding.
    (a,), (a_dot,) = primals, tangents
    f = scaled_tanh(a)
    return f, _SLOPE / _AMPLITUDE * (_AMPLITUDE - f) * (_AMPLITUDE + f) * a_dot


def scale_and_shift(
    x: jax.Array,
    scale: jax.Array,
    shift: jax.Array,
    *,
    activation: Activation = jax.nn.identity,
) -> jax.Array:
    """activation(x * scale + shift), one scale and one shift per map.

    Args:
        x: float[N, *spatial, F].
        scale, shift: float[F].
        activation: a function of one element at a time; by default none.

    Returns:
        float[N, *spatial, F].

    Raises:
        ValueError: a scale or a shift of another shape.

    Source: LeCun et al. 1998, section II.B, layer S2 (after its sum).
    """
    if not scale.shape == shift.shape == x.shape[-1:]:
        raise ValueError(
            f"maps {x.shape} take a scale and a shift {x.shape[-1:]}, one per map; their shapes "
            f"are {scale.shape} and {shift.shape}"
        )

    def along(axis, x, scale, shift):
        per_map = [1] * x.ndim
        per_map[axis] = x.shape[axis]
        return activation(x * scale.reshape(per_map) + shift.reshape(per_map))

    plain = functools.partial(along, -1)
    if x.ndim < 3 or x.shape[-1] > FEW_MAPS:
        return plain(x, scale, shift)

    def turned(x, scale, shift):
        return along(0, x.swapaxes(0, -1), scale, shift).swapaxes(0, -1)

    return choose(x, scale, shift, plain=plain, cpu=turned)


def dropout(x: jax.Array, keys: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Set a fraction ``rate`` of the elements to zero and scale up the others by 1 / (1 - rate).

    Args:
        x: float[N, ...].
        keys: key[N], one random key per example.  An example's mask depends on its own key
            alone, so it is the same however the batch is divided among devices.  Not of the
            "rbg" implementations, which draw one key's mask together with the batch's others.
        rate: 0 <= rate < 1; may be traced.

    Returns:
        float[N, ...], of ``x``'s dtype.

    Raises:
        ValueError: keys of an "rbg" implementation.

    Source: Srivastava et al. 2014, with the scaling moved to training time.
    """
    if (implementation := jax.random.key_impl(keys)) in ("rbg", "unsafe_rbg"):
        raise ValueError(
            f"dropout's keys are of the implementation {implementation!r}, with which an example's "
            f"mask would depend on its batch; it must be another, such as 'threefry2x32'"
        )
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)
