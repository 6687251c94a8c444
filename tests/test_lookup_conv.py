"""Convolution over looked-up rows and its maximum: by hand, and projected against plain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from tests.agreement import assert_agree, lowered, operands, plainly, quickly

# table, ids, kernels
SHAPES = {
    "three windows": ((13, 5), (4, 9), [(2, 5, 3), (3, 5, 3), (4, 5, 3)]),
    "different numbers of maps": ((6, 4), (3, 7), [(1, 4, 2), (5, 4, 6)]),
    "a window as long as a sequence": ((8, 3), (2, 6), [(6, 3, 4)]),
    "many sequences": ((80, 3), (23, 6), [(2, 3, 4), (3, 3, 4)]),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def arguments(shape, dtype="float32"):
    table, ids, kernels = shape
    table, *kernels = operands(table, *kernels, dtype=dtype)
    random = np.random.default_rng(1)
    return table, random.integers(0, len(table), ids).astype(np.int32), tuple(kernels)


def value_and_gradients(table, ids, kernels):
    """Maxima, winners, and the gradients of a weighed sum of the maxima in table and kernels."""
    maxima, backward, winners = jax.vjp(
        lambda t, k: ops.max_of_lookup_conv(t, ids, k), table, kernels, has_aux=True
    )
    weights = np.cos(np.arange(maxima.size)).reshape(maxima.shape).astype(maxima.dtype)
    return maxima, winners, backward(jnp.asarray(weights))


def test_by_hand():
    """Words of one element; sequence 2 5 1 with the window (1, -1): 2 - 5, 5 - 1."""
    table = jnp.array([[0.0], [1.0], [2.0], [5.0]])
    kernels = (jnp.array([[[1.0, 0.0]], [[-1.0, 1.0]]]), jnp.array([[[2.0]]]))
    maxima, winners = quickly(ops.max_of_lookup_conv)(table, jnp.array([[2, 3, 1]]), kernels)
    # Second map: the second word of each window, 5 and 1; the other kernel: twice a word.
    np.testing.assert_allclose(maxima, [[4.0, 5.0, 10.0]])
    np.testing.assert_array_equal(winners, [[1, 0, 1]])


@pytest.mark.parametrize("plain", [False, True])
def test_of_equal_windows_the_first_wins_and_has_the_gradient(plain):
    table, ids = jnp.array([[0.0], [3.0], [3.0]]), jnp.array([[0, 1, 0, 2, 1]])
    run = quickly(value_and_gradients)
    run = functools.partial(plainly, run) if plain else run
    maxima, winners, (gradient, (kernel,)) = run(table, ids, (jnp.ones((1, 1, 1)),))
    assert (float(maxima[0, 0]), int(winners[0, 0])) == (3.0, 1)
    np.testing.assert_array_equal(gradient, [[0.0], [1.0], [0.0]])
    np.testing.assert_array_equal(kernel, [[[3.0]]])


@shapes
def test_projected_rows_equal_looked_up_ones(shape):
    with jax.enable_x64(True):
        exact = arguments(shape, "float64")
        expected = plainly(quickly(value_and_gradients), *exact)
        assert_agree(quickly(value_and_gradients)(*exact), expected, 1e-12)
    found = quickly(value_and_gradients)(*arguments(shape))
    assert_agree(found[0], np.float32(expected[0]))
    np.testing.assert_array_equal(found[1], expected[1])
    assert_agree(found[2], jax.tree.map(np.float32, expected[2]))


def test_rows_are_projected_on_cpu_only_and_only_where_they_are_fewer():
    shape = SHAPES["three windows"]
    text = lambda *arguments, on: lowered(ops.max_of_lookup_conv, arguments, on)
    table, ids, kernels = arguments(shape)
    assert "convolution" not in text(table, ids, kernels, on="cpu")
    assert "convolution" in text(table, ids, kernels, on="cuda")
    assert "convolution" in text(table, ids[:1], kernels, on="cpu")


@pytest.mark.parametrize(("rows", "products"), [(12, 3), (13, 2)])
def test_few_rows_are_multiplied_and_winners_among_many_are_added_up(rows, products):
    """Forward and for the table's gradient there is a product in either case."""
    _, ids, kernels = SHAPES["three windows"]  # four sequences
    found = lowered(value_and_gradients, arguments(((rows, 5), ids, kernels)), "cpu")
    assert found.count("stablehlo.dot_general") == products


def test_many_small_gradients_are_added_up_in_bfloat16_too():
    """300 ones: in bfloat16 256 and 1 are 256."""
    table = jnp.ones((1000, 1), jnp.bfloat16)
    ids = np.arange(300, dtype=np.int32)[:, None] + np.arange(4, dtype=np.int32)[None]
    total = lambda kernel: ops.max_of_lookup_conv(table, ids, (kernel,))[0].sum()
    assert float(quickly(jax.grad(total))(jnp.ones((1, 1, 1), jnp.bfloat16))[0, 0, 0]) == 300


def test_over_trials_is_a_loop():
    table, ids, kernels = arguments(SHAPES["three windows"])
    tables = jnp.stack([table, 2 * table])
    batches = jnp.stack([ids, ids[::-1]])
    together = jax.vmap(value_and_gradients, in_axes=(0, 0, None))
    found = quickly(together)(tables, batches, kernels)
    for i in range(2):
        alone = quickly(value_and_gradients)(tables[i], batches[i], kernels)
        assert_agree(jax.tree.map(lambda leaf, i=i: leaf[i], found), alone)


@pytest.mark.parametrize(
    ("table", "ids", "kernels", "message"),
    [
        ((4, 3), (2, 5), [(6, 3, 1)], "a window of 6 does not fit into sequences of 5"),
        ((4, 3), (2, 5), [(2, 4, 1)], r"rows of 3 elements is \[w, 3, F\], not \(2, 4, 1\)"),
        ((4,), (2, 5), [(2, 4, 1)], "looked up by ids"),
    ],
)
def test_shapes_that_do_not_fit(table, ids, kernels, message):
    kernels = [jnp.ones(kernel) for kernel in kernels]
    with pytest.raises(ValueError, match=message):
        ops.max_of_lookup_conv(jnp.ones(table), jnp.ones(ids, jnp.int32), kernels)
