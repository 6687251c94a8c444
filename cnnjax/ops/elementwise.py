"""Functions of one element at a time."""

import jax
import jax.numpy as jnp

_AMPLITUDE, _SLOPE = 1.7159, 2 / 3


@jax.custom_jvp
def scaled_tanh(a: jax.Array) -> jax.Array:
    """The squashing function f(a) = 1.7159 tanh(2a / 3), float[...] -> float[...].

    Its constants make f(1) = 1 and f(-1) = -1, with the largest curvature there.

    Source: LeCun et al. 1998, section II.B, equation 6 and appendix A.
    """
    return _AMPLITUDE * jnp.tanh(_SLOPE * a)


@scaled_tanh.defjvp
def _(primals, tangents):
    # By the value, not by tanh: one array is kept for the gradient instead of two.  As a product
    # of differences it is never negative, whatever the rounding.
    (a,), (a_dot,) = primals, tangents
    f = scaled_tanh(a)
    return f, _SLOPE / _AMPLITUDE * (_AMPLITUDE - f) * (_AMPLITUDE + f) * a_dot


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
