"""Stochastic diagonal Levenberg-Marquardt: every parameter has a rate of its own.

A parameter w_k moves by -epsilon / (mu + h_kk) times its gradient, where h_kk is the diagonal of
the Gauss-Newton matrix, the part of the Hessian that is never negative, measured on some examples
before every epoch: large steps where the loss is flat, small ones where it is curved.

Source: LeCun et al. 1998, section II.F and appendix C.  There the second derivatives are
propagated backwards without the products of different units; here nothing is left out.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Outputs = Callable[[Any, jax.Array], jax.Array]
"""``(params, inputs [N, ...]) -> float[N, D]``: what the loss is a convex function of."""


class CurvatureState(NamedTuple):
    """Attributes: curvature: h_kk, a tree like the parameters; zeros until it is measured."""

    curvature: Any


def scale_by_curvature(damping: float | jax.Array = 0.02) -> optax.GradientTransformation:
    """Divide each gradient by ``damping`` + its curvature (mu + h_kk; section II.F, equation 21).

    The curvature is part of the state, where :func:`calibration` puts it.
    """

    def init(params: Any) -> CurvatureState:
        return CurvatureState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None):
        del params
        scaled = jax.tree.map(lambda g, h: g / (damping + h), updates, state.curvature)
        return scaled, state

    return optax.GradientTransformation(init, update)


def calibration(
    outputs: Outputs,
    losses: Callable[..., jax.Array],
    draws: int | None = 1,
) -> Callable[..., Any]:
    """A task's ``calibrate``: measure the curvature and put it into the optimiser's state.

    Args:
        outputs: of the network.
        losses: of the outputs, called as a task's ``loss`` is.
        draws: as in :func:`gauss_newton_diagonal`.
    """

    def calibrate(
        key: jax.Array, params: Any, opt_state: Any, examples: Mapping[str, jax.Array], hparams: Any
    ) -> Any:
        of_outputs = functools.partial(losses, hparams=hparams)
        inputs, labels = examples["inputs"], examples["labels"]
        diagonal = gauss_newton_diagonal(outputs, of_outputs, params, inputs, labels, key, draws)
        return optax.tree_utils.tree_set(opt_state, curvature=diagonal)

    return calibrate


def gauss_newton_diagonal(
    outputs: Outputs,
    losses: Callable[[jax.Array, jax.Array], jax.Array],
    params: Any,
    inputs: jax.Array,
    labels: jax.Array,
    key: jax.Array | None = None,
    draws: int | None = None,
) -> Any:
    """The diagonal of the mean over examples of J^T H J, a tree like ``params``.

    J is the Jacobian of an example's outputs in the parameters, H the Hessian of its loss in the
    outputs.  With H = L L^T the diagonal is the sum of the squares of J^T l over the D columns l
    of L: D backward passes.  The mean of the squares of J^T L s over random signs s is the same,
    so that a few draws of them, one backward pass each, are an unbiased estimate.

    Args:
        outputs: of the network.
        losses: ``(outputs float[N, D], labels int32[N]) -> float[N]``, convex in the outputs.
        params: of the network.
        inputs: [N, ...].
        labels: int32[N].
        key: of the draws.
        draws: how many per example; by default none, and the diagonal is exact.
    """

    def squares(key: jax.Array, x: jax.Array, label: jax.Array) -> Any:
        z, backward = jax.vjp(lambda params: outputs(params, x[None])[0], params)
        hessian = jax.hessian(lambda z: losses(z[None], label[None])[0])(z)
        values, vectors = jnp.linalg.eigh(hessian)
        columns = vectors * jnp.sqrt(jnp.maximum(values, 0))[None]
        if draws is not None:
            signs = jax.random.rademacher(key, (z.size, draws), z.dtype)
            columns = columns @ signs / jnp.sqrt(draws)
        (gradients,) = jax.vmap(backward)(columns.T)
        return jax.tree.map(lambda g: jnp.square(g).sum(0), gradients)

    keys = jax.random.split(jax.random.key(0) if key is None else key, len(labels))
    return jax.tree.map(lambda s: s.mean(0), jax.vmap(squares)(keys, inputs, labels))
