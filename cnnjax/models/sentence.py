"""The convolutional network for sentences of Kim 2014, in its four variants."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from cnnjax import ops
from cnnjax.layers import symmetric_uniform
from cnnjax.models.interface import Dropout
from cnnjax.ops.windows import check_at_least_one

Variant = Literal["rand", "static", "nonstatic", "multichannel"]
ActivationName = Literal["relu", "tanh", "sigmoid", "softplus", "cube", "identity"]
Pooling = Literal["max", "k_max", "local_max", "mean"]

# None of them ever decreases: the maximum over time may be taken before them.
ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "cube": lambda x: x**3,
    "identity": lambda x: x,
}


class SentenceCNN(nn.Module):
    """Words -> vectors -> convolutions over time -> function -> pooling over time -> softmax.

    int32[N, T] ids of words -> logits float32[N, K] and features: "winners", a dict from window to
    int32[N, F], the position of the first word of the window with a map's largest value (of equals
    the first; -1 where it lies wholly in padding); "pooled" float32[N, P], what the output layer
    sees, the windows in their order; "logits".  P is F for every window, k * F with ``"k_max"``,
    whose k values of a map stand next to each other in the order of the sentence, as do the maxima
    of its parts with ``"local_max"``.

    Id 0 is padding, which takes part in the pooling like a word.

    Attributes:
        vocabulary: V, rows of the table.
        classes: K.
        embedding: E, elements of a word's vector.
        variant: of the channels: ``"rand"`` and ``"nonstatic"`` train the words' vectors (and
            differ in what ``table_init`` makes of them), ``"static"`` does not; ``"multichannel"``
            applies the same filters to a trained channel and to one that keeps the initial vectors,
            and adds the results up.
        windows: words that a filter sees, different ones.
        maps: F, filters of every window.
        activation: function of convolution and bias, a name in :data:`ACTIVATIONS`.
        pooling: over time: ``"max"``, ``"mean"``, the ``k`` largest in their order, ``"k_max"``, or
            the maximum of every ``pool_size`` positions side by side, ``"local_max"`` (the number
            of which, and with it the output layer, depends on T).
        k: with ``"k_max"``.
        pool_size: with ``"local_max"``; the last may be shorter.
        table_init: initialiser of the table float[V, E]; row 0 should be zero.

    Raises:
        ValueError: attributes that do not fit each other or the length of the sentences.

    Source: Kim 2014, section 2; weights start as in the author's code: kernels uniform in ± 0.01,
    all others zero.
    """

    vocabulary: int
    classes: int
    embedding: int = 300
    variant: Variant = "rand"
    windows: tuple[int, ...] = (3, 4, 5)
    maps: int = 100
    activation: ActivationName = "relu"
    pooling: Pooling = "max"
    k: int = 1
    pool_size: int = 10
    table_init: Callable[..., Any] = symmetric_uniform(0.25)

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, dropout: Dropout | None = None
    ) -> tuple[jax.Array, dict[str, Any]]:
        self._check(inputs)
        table = Channels(
            self.vocabulary, self.embedding, self.variant, self.table_init, name="embedding"
        )()
        filters = [Filters(w, self.maps, name=f"conv{w}")(self.embedding) for w in self.windows]
        pooled, winners = self._pool(table, inputs, filters)
        kept = pooled if dropout is None else dropout(pooled)
        zeros = nn.initializers.zeros_init()
        logits = nn.Dense(self.classes, kernel_init=zeros, name="output")(kept)
        winners = {w: _or_padding(inputs, w, at) for w, at in winners.items()}
        return logits, {"winners": winners, "pooled": pooled, "logits": logits}

    def _pool(
        self, table: jax.Array, ids: jax.Array, filters: list[tuple[jax.Array, jax.Array]]
    ) -> tuple[jax.Array, dict[int, jax.Array]]:
        """The pooled maps float[N, P], and the winner of each map by window."""
        function = ACTIVATIONS[self.activation]
        kernels, biases = zip(*filters, strict=True)
        if self.pooling == "max":
            largest, at = ops.max_of_lookup_conv(table, ids, kernels)
            parts = jnp.split(at, len(kernels), axis=1)
            pooled = function(largest + jnp.concatenate(biases)[None])
            return pooled, dict(zip(self.windows, parts, strict=True))
        x, pooled, winners = table[ids], [], {}
        for window, kernel, bias in zip(self.windows, kernels, biases, strict=True):
            y = ops.conv(x, kernel)
            winners[window] = jnp.argmax(y, axis=1).astype(jnp.int32)
            maps = function(ops.add_bias(y, bias))
            if self.pooling == "mean":
                pooled.append(maps.mean(axis=1))
                continue
            if self.pooling == "k_max":
                best = ops.k_max_over_time(maps, self.k)
            else:
                rest = -maps.shape[1] % self.pool_size
                best = ops.max_pool(maps, self.pool_size, padding=((0, rest),))
            pooled.append(best.swapaxes(1, 2).reshape(len(ids), -1))
        return jnp.concatenate(pooled, axis=1), winners

    def _check(self, inputs: jax.Array) -> None:
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(
                f"sentences are int[N, T] ids of words; these are {inputs.dtype}"
                f"{list(inputs.shape)}"
            )
        for name, values in (
            ("variant", get_args(Variant)), ("activation", get_args(ActivationName)),
            ("pooling", get_args(Pooling)),
        ):  # fmt: skip
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(values)}"
                )
        for name in ("vocabulary", "classes", "embedding", "maps"):
            check_at_least_one(getattr(self, name), name)
        length = inputs.shape[1]
        if problem := window_problem(self.windows, length, self.k_needed()):
            raise ValueError(problem)

    def k_needed(self) -> int:
        """How many windows of every size a sentence must have."""
        return self.k if self.pooling == "k_max" else 1


class Channels(nn.Module):
    """The words' vectors, those of two channels added up: float[V, E].

    The sum is what filters that are applied to both channels see of them: convolution is linear.
    """

    vocabulary: int
    size: int
    variant: Variant
    table_init: Callable[..., Any]

    @nn.compact
    def __call__(self) -> jax.Array:
        shape = (self.vocabulary, self.size)
        table = self._param("table", lambda key: self.table_init(key, shape, jnp.float32))
        if self.variant == "static":
            return lax.stop_gradient(table)
        if self.variant == "multichannel":
            return table + lax.stop_gradient(self._param("static", lambda key: table))
        return table

    def _param(self, name: str, init: Callable[[jax.Array], jax.Array]) -> jax.Array:
        # Of any number of rows: ids may be positions among a few (cnnjax.training.sparse.lookup).
        if self.has_variable("params", name):
            return self.get_variable("params", name)
        return self.param(name, init)


class Filters(nn.Module):
    """Kernel float[w, E, F] and bias float[F] of the filters of one window."""

    window: int
    maps: int

    @nn.compact
    def __call__(self, size: int) -> tuple[jax.Array, jax.Array]:
        shape = (self.window, size, self.maps)
        kernel = self.param("kernel", symmetric_uniform(0.01), shape)
        return kernel, self.param("bias", nn.initializers.zeros_init(), (self.maps,))


def window_problem(windows: tuple[int, ...], length: int, k: int = 1) -> str | None:
    """What is wrong with windows over sentences of ``length`` ids of which ``k`` are pooled."""
    if not windows or len(set(windows)) < len(windows) or min(windows) < 1:
        return f"windows is {windows}; it must be different integers of at least 1"
    if max(windows) + k - 1 > length:
        what = f"a window of {max(windows)}" + (f" at {k} positions" if k > 1 else "")
        return f"windows is {windows}; {what} does not fit into the data's {length} ids a sentence"
    return None


def _or_padding(ids: jax.Array, window: int, winners: jax.Array) -> jax.Array:
    """``winners`` int32[N, F], or -1 where a window has padding only."""
    count = ids.shape[1] - window + 1
    words = sum((ids[:, i : i + count] != 0).astype(jnp.int32) for i in range(window))
    return jnp.where(jnp.take_along_axis(words, winners, axis=1) > 0, winners, -1)
