"""Convolution's value and derivatives, each by the lowering that is fastest for it.

Convolution is linear in its input and in its kernel, so its derivative in either direction is
again a convolution, and any lowering of that may stand for it: what is transposed to a gradient
is the lowering that was chosen.  All of these take x [N, *spatial, C] and kernel [*window, C, F],
without groups or dilation, and all but :func:`winograd` without padding and strides.

On CPU, XLA's own lowering (``direct``) computes values and kernel gradients near the machine's
peak where there are many channels, but its input gradient is a convolution of the padded gradient
with the whole window: 12 x 12 outputs instead of 8 x 8 for a 5 x 5 kernel.
``benchmarks/README.md`` has the measurements.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from cnnjax.ops.lowerings.winograd import winograd

_PIECE = 128  # images

Lowering = Callable[[jax.Array, jax.Array], jax.Array]


def fastest(
    direct: Lowering,
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    precision: lax.PrecisionLike,
) -> Mapping[str, Lowering]:
    """The lowerings for operands of these shapes, by platform; others take ``direct``.

    On CPU:

    ================================  ==========  ====================  =====================
    shape                             value       derivative in input   derivative in kernel
    ================================  ==========  ====================  =====================
    3x3, 64 channels and maps or      winograd    winograd              winograd
    more, 14x14 outputs or more
    other strides, other padding      direct      direct                direct
    the window is the whole image     product     product               product
    over time, up to 3 steps          shifts      direct                shifts
    image                             direct      rows                  direct
    other                             direct      direct                direct
    ================================  ==========  ====================  =====================

    On NVIDIA's GPUs, the product where the window is the whole image.
    """
    if max(strides) > 1:
        return {}
    if _worth_winograd(x, kernel, pads):
        return {"cpu": _winograd(pads)}
    if any(map(any, pads)):
        return {}
    if x.shape[1:-1] == kernel.shape[:-2]:
        one = functools.partial(product, precision=precision)
        return {"cpu": one, "cuda": one}
    if x.ndim == 3 and kernel.shape[0] <= 3:
        return {"cpu": bilinear(shifts, by_input=direct, by_kernel=shifts)}
    if x.ndim == 4:
        by_rows, in_pieces = (functools.partial(way, direct) for way in (rows, _in_pieces))
        return {"cpu": bilinear(direct, by_input=by_rows, by_kernel=in_pieces)}
    return {}


def bilinear(value: Lowering, *, by_input: Lowering, by_kernel: Lowering) -> Lowering:
    """``value``, differentiated as ``by_input`` in its first and ``by_kernel`` in its second
    argument."""
    convolution = jax.custom_jvp(value)

    def differentiate(primals, tangents):
        (x, kernel), (x_dot, kernel_dot) = primals, tangents
        terms = []
        if not isinstance(x_dot, SymbolicZero):
            terms.append(by_input(x_dot, kernel))
        if not isinstance(kernel_dot, SymbolicZero):
            terms.append(by_kernel(x, kernel_dot))
        return convolution(x, kernel), functools.reduce(jnp.add, terms)

    convolution.defjvp(differentiate, symbolic_zeros=True)
    return convolution


def _worth_winograd(x: jax.Array, kernel: jax.Array, pads: Sequence[tuple[int, int]]) -> bool:
    if (
        kernel.shape[:-2] != (3, 3)
        or max(map(max, pads)) > 2
        or x.dtype not in (jnp.float32, jnp.float64)
    ):
        return False
    outputs = [size + sum(pad) - 2 for size, pad in zip(x.shape[1:-1], pads, strict=True)]
    return min(kernel.shape[-2:]) >= 64 and min(outputs) >= 14


def _winograd(pads: Sequence[tuple[int, int]]) -> Lowering:
    """Winograd's lowering, whose gradient in the input is another such."""
    value = functools.partial(winograd, pads=pads)

    def by_input(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # The linear map whose transpose, the gradient, is the convolution with the flipped kernel.
        flipped = kernel[::-1, ::-1].swapaxes(-1, -2)
        beyond = [(2 - low, 2 - high) for low, high in pads]
        y = jax.eval_shape(value, x, kernel)
        return jax.linear_transpose(lambda g: winograd(g, flipped, beyond), y)(x)[0]

    return bilinear(value, by_input=by_input, by_kernel=value)


def _in_pieces(direct: Lowering, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``direct`` on 128 images at a time.

    Its kernel gradient first copies the images into a layout with N last; where N is large, each
    element of a row then comes from another page of memory.
    """
    if x.shape[0] <= _PIECE:
        return direct(x, kernel)
    firsts = range(0, x.shape[0], _PIECE)
    return jnp.concatenate([direct(x[first : first + _PIECE], kernel) for first in firsts])


def product(x: jax.Array, kernel: jax.Array, *, precision: lax.PrecisionLike = None) -> jax.Array:
    """One matrix product, where the window covers the whole image."""
    flat = kernel.reshape(-1, kernel.shape[-1])
    y = jnp.matmul(x.reshape(x.shape[0], flat.shape[0]), flat, precision=precision)
    return y.reshape(x.shape[0], *(1,) * (x.ndim - 2), flat.shape[1])


def shifts(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Over time: every element projected once by all offsets of the kernel, then shifted sums."""
    window, channels, maps = kernel.shape
    count = x.shape[1] - window + 1
    projected = x @ kernel.transpose(1, 0, 2).reshape(channels, -1)
    return functools.reduce(
        jnp.add,
        [projected[:, i : i + count, i * maps : (i + 1) * maps] for i in range(window)],
    )


def rows(direct: Lowering, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The kernel's rows as channels: a ``direct`` convolution along the other axis only.

    Transposed, it is a convolution that pads one axis, and a sum of shifted rows.
    """
    height, width, _, maps = kernel.shape
    count = x.shape[1] - height + 1
    stacked = jnp.concatenate([x[:, i : i + count] for i in range(height)], axis=-1)
    return direct(stacked, kernel.transpose(1, 0, 2, 3).reshape(1, width, -1, maps))
