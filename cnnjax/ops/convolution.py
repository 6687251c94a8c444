"""Discrete convolution, in the lecture's sense and in the networks' sense."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.ops.lowerings.choice import choose
from cnnjax.ops.lowerings.convolution import fastest
from cnnjax.ops.windows import Padding, check_fits, pad_widths, per_axis

_SPATIAL = "XYZ"


def _dimension_numbers(rank: int) -> tuple[str, str, str]:
    axes = _SPATIAL[:rank]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def convolve(a: jax.Array, b: jax.Array, mode: str = "full") -> jax.Array:
    """Discrete linear convolution s(n) = sum_m a(m) b(n - m): b flipped, slid over a, summed.

    Args:
        a: number[...], one to three axes.
        b: number[...], the kernel, with as many axes as ``a``.
        mode: ``"full"``: every n where the two overlap, n = 0..N+M-2;
            ``"same"``: its central part, with the shape of ``a``;
            ``"valid"``: only where one lies wholly inside the other.

    Returns:
        float[...]; integers are promoted to the default float type.  Equal to
        ``numpy.convolve`` (``"same"``: for a kernel no longer than the signal) and to
        ``scipy.signal.convolve``.

    Raises:
        ValueError: unknown mode, unequal or unsupported number of axes, an empty operand, or
            ``"valid"`` where neither operand is at least as large as the other on every axis.

    Source: the lecture's definition and its worked table, (2, 1, 3, -1) * (-1, 1, 2).
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    dtype = jnp.result_type(a, b, *([] if jnp.issubdtype(a.dtype, jnp.inexact) else [float]))
    if a.ndim != b.ndim or not 1 <= a.ndim <= 3:
        raise ValueError(
            f"convolve takes two arrays of one to three axes, the same for both; "
            f"their shapes are {a.shape} and {b.shape}"
        )
    if not a.size or not b.size:
        raise ValueError(f"convolve needs operands that are not empty: {a.shape} and {b.shape}")
    if mode == "valid" and all(m >= n for n, m in zip(a.shape, b.shape, strict=True)):
        a, b = b, a
    if mode == "full":
        pads = [(m - 1, m - 1) for m in b.shape]
    elif mode == "same":
        pads = [(m // 2, (m - 1) // 2) for m in b.shape]
    elif mode == "valid":
        pads = [(0, 0)] * a.ndim
    else:
        raise ValueError(f"mode is {mode!r}; it must be 'full', 'same' or 'valid'")
    check_fits(a.shape, b.shape, pads, "kernel")
    out = lax.conv_general_dilated(
        a.astype(dtype)[None, ..., None],
        jnp.flip(b.astype(dtype))[..., None, None],
        (1,) * a.ndim,
        pads,
        dimension_numbers=_dimension_numbers(a.ndim),
        precision=lax.Precision.HIGHEST,
    )
    return out[0, ..., 0]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """What networks call convolution: cross-correlation, channel-last, in 1-D, 2-D or 3-D.

    y[n, p, f] = sum_{q, c} x[n, strides * p + dilation * q, c] kernel[q, c, f]

    Args:
        x: float[N, *spatial, C].
        kernel: float[*window, C / groups, F].
        strides, dilation: one int for all spatial axes, or one for each.
        padding: see :func:`cnnjax.ops.windows.pad_widths`.
        groups: number of independent blocks that channels and maps are divided into.
        precision: of the products on accelerators, as in ``jax.lax``.

    Returns:
        float[N, *outputs, F].

    Raises:
        ValueError: shapes that do not fit each other, naming both.

    What is finite is the same on every platform, to rounding.  Where an operand is infinite or not
    a number, more outputs than those that depend on it may be NaN on CPU: those of the same row or
    tile, where it is multiplied by zeros (:mod:`cnnjax.ops.lowerings.convolution`).
    """
    rank = kernel.ndim - 2
    if not 1 <= rank <= 3 or x.ndim != rank + 2:
        raise ValueError(
            f"conv takes inputs [N, *spatial, C] and a kernel [*window, C, F] with one to three "
            f"spatial axes; their shapes are {x.shape} and {kernel.shape}"
        )
    check_groups(groups, x.shape[-1], kernel.shape[-1])
    if kernel.shape[-2] * groups != x.shape[-1]:
        raise ValueError(
            f"a kernel {kernel.shape} in {groups} group(s) takes {kernel.shape[-2] * groups} "
            f"channels; the inputs are {x.shape}"
        )
    strides = per_axis(strides, rank, "strides")
    dilation = per_axis(dilation, rank, "dilation")
    window, sizes = per_axis(kernel.shape[:-2], rank, "the kernel's window"), x.shape[1:-1]
    pads = pad_widths(padding, sizes, window, strides, dilation)
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    check_fits(sizes, reach, pads, "kernel")
    direct = functools.partial(
        lax.conv_general_dilated,
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilation,
        dimension_numbers=_dimension_numbers(rank),
        feature_group_count=groups,
        precision=precision,
    )
    if groups > 1 or max(dilation) > 1:
        return direct(x, kernel)
    faster = fastest(direct, x, kernel, strides, pads, precision)
    return choose(x, kernel, plain=direct, **faster)


def add_bias(y: jax.Array, bias: jax.Array | None) -> jax.Array:
    """y float[N, *spatial, F] plus a bias, float[F] or float[*spatial, F], or none.

    Raises ValueError for a bias of another shape, naming both.
    """
    if bias is None:
        return y
    if bias.shape not in (y.shape[-1:], y.shape[1:]):
        raise ValueError(
            f"outputs {y.shape} take a bias {y.shape[-1:]}, one per map, or {y.shape[1:]}, one per "
            f"unit; its shape is {bias.shape}"
        )
    return y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)


def check_groups(groups: int, channels: int, maps: int) -> None:
    """Raise ValueError where there are no channels or maps, or not so many groups of them."""
    if channels < 1 or maps < 1:
        raise ValueError(
            f"a convolution takes at least one input channel to at least one output map; here are "
            f"{channels} input channel(s) and {maps} output map(s)"
        )
    if groups < 1 or channels % groups or maps % groups:
        raise ValueError(
            f"groups is {groups}; it must be at least 1 and divide both "
            f"the {channels} input channel(s) and the {maps} output map(s)"
        )


def local_conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Convolution with unshared kernels: every output position has weights of its own.

    y[n, p, f] = sum_{q, c} x[n, strides * p + q, c] kernel[p, q, c, f]

    Args:
        x: float[N, *spatial, C].
        kernel: float[*outputs, *window, C, F]; its first axes are the output positions.
        strides, padding: as in :func:`conv`.
        precision: of the products on accelerators, as in ``jax.lax``.

    Returns:
        float[N, *outputs, F].

    Raises:
        ValueError: where the kernel's positions are not those the window takes.

    Source: LeCun 1989, "Generalization and Network Design Strategies", Net-3.
    """
    rank = x.ndim - 2
    if not 1 <= rank <= 3 or kernel.ndim != 2 * rank + 2 or kernel.shape[-2] != x.shape[-1]:
        raise ValueError(
            f"local_conv takes inputs [N, *spatial, C] and a kernel [*outputs, *window, C, F]; "
            f"their shapes are {x.shape} and {kernel.shape}"
        )
    check_groups(1, *kernel.shape[-2:])
    strides = per_axis(strides, rank, "strides")
    window = per_axis(kernel.shape[rank : 2 * rank], rank, "the kernel's window")
    sizes = x.shape[1:-1]
    pads = pad_widths(padding, sizes, window, strides)
    check_fits(sizes, window, pads, "kernel")
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    outputs = tuple(
        (n - w) // s + 1 for n, w, s in zip(padded.shape[1:-1], window, strides, strict=True)
    )
    if kernel.shape[:rank] != outputs:
        raise ValueError(
            f"a window {window} with strides {strides} takes {outputs} positions on inputs "
            f"{x.shape}; the kernel has weights for {kernel.shape[:rank]}"
        )
    patches = [
        lax.slice(
            padded,
            (0, *offset, 0),
            (
                x.shape[0],
                *(o + (p - 1) * s + 1 for o, p, s in zip(offset, outputs, strides, strict=True)),
                x.shape[-1],
            ),
            (1, *strides, 1),
        )
        for offset in itertools.product(*map(range, window))
    ]
    return jnp.einsum(
        "n...qc,...qcf->n...f",
        jnp.stack(patches, axis=-2),
        kernel.reshape(*outputs, -1, *kernel.shape[-2:]),
        precision=precision,
    )
