"""The faster lowerings of convolution against the plain ones, and who takes which."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import ops
from cnnjax.ops.lowerings import winograd
from tests.agreement import (
    assert_agree,
    assert_is_plain,
    lowered,
    operands,
    plainly,
    quickly,
    thoroughly,
    weighed_gradients,
    with_gradients,
)
from tests.child_process import child

# --- convolution ------------------------------------------------------------------------------

CONVOLUTIONS = {
    "a whole image": ((5, 4, 6, 3), (4, 6, 3, 7)),
    "a whole sequence": ((5, 6, 3), (6, 3, 4)),
    "a whole volume": ((2, 3, 4, 2, 2), (3, 4, 2, 2, 5)),
    "one step": ((4, 9, 3), (1, 3, 5)),
    "two steps": ((4, 9, 3), (2, 3, 5)),
    "three steps": ((4, 8, 3), (3, 3, 5)),
    "five steps": ((4, 11, 3), (5, 3, 5)),
    "images": ((3, 9, 7, 3), (4, 2, 3, 5)),
    "a wide window": ((3, 7, 11, 2), (1, 5, 2, 4)),
    "three pieces": ((300, 7, 5, 2), (3, 2, 2, 3)),
    "many maps": ((2, 16, 17, 64), (3, 3, 64, 64)),
    "volumes": ((2, 5, 4, 6, 2), (3, 2, 2, 2, 3)),
}


def convolutions(*names):
    shapes = [CONVOLUTIONS[name] for name in names or CONVOLUTIONS]
    return pytest.mark.parametrize("shapes", shapes, ids=names or list(CONVOLUTIONS))


@convolutions()
def test_conv_and_its_gradients_equal_the_plain_ones(shapes):
    assert_is_plain(ops.conv, *shapes, jit=thoroughly)


def test_a_strided_padded_or_grouped_conv_stays_as_it_is():
    arguments = operands((2, 7, 8, 2), (3, 2, 1, 4))
    options = {"strides": 2, "padding": "same", "groups": 2}
    function = quickly(with_gradients(functools.partial(ops.conv, **options)))
    assert_agree(function(*arguments), plainly(function, *arguments), 0)


@convolutions("a whole image", "two steps", "images", "three pieces", "many maps")
@pytest.mark.parametrize("argnum", [0, 1], ids=["input", "kernel"])
def test_the_gradient_in_one_operand_alone_is_the_plain_one(shapes, argnum):
    arguments = operands(*shapes)
    gradient = quickly(weighed_gradients(ops.conv, argnum))
    assert_agree(gradient(*arguments), plainly(gradient, *arguments))


def test_integers_are_convolved_as_they_are():
    x, kernel = np.arange(20 * 16 * 64).reshape(1, 20, 16, 64) % 7, np.ones((3, 3, 64, 64), int)
    function = quickly(ops.conv)
    arguments = x.astype(np.int32), kernel.astype(np.int32)
    np.testing.assert_array_equal(function(*arguments), plainly(function, *arguments))


@pytest.mark.parametrize("padding", [1, ((2, 1), (0, 2))])
@pytest.mark.parametrize(
    ("piece", "unrolled", "bodies", "loops"),
    [(1, 2, 1, 1), (700_000, 1, 2, 1), (700_000, 2, 2, 0), (1 << 24, 2, 1, 0)],
    ids=["a loop", "a loop and a rest", "two pieces", "at once"],
)
def test_winograds_convolution_is_the_plain_one(
    padding, piece, unrolled, bodies, loops, monkeypatch
):
    monkeypatch.setattr(winograd, "_PIECE", piece)
    monkeypatch.setattr(winograd, "_UNROLLED", unrolled)
    padded = functools.partial(ops.conv, padding=padding)
    shapes = (3, 14, 15, 64), (3, 3, 64, 65)
    assert_is_plain(padded, *shapes)
    text = lowered(padded, operands(*shapes), "cpu")
    # One product for each of 16 sums, and two that transform the kernel.
    assert text.count("stablehlo.dot_general") == 16 * bodies + 2
    assert text.count("stablehlo.while") == loops


some_convolutions = convolutions("a whole image", "two steps", "images")


@some_convolutions
def test_conv_in_bfloat16_is_near_float32(shapes):
    function = quickly(with_gradients(ops.conv))
    half = function(*operands(*shapes, dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("bfloat16")}
    whole = plainly(function, *operands(*shapes))
    assert_agree(jax.tree.map(np.float32, half), jax.tree.map(np.asarray, whole), 0.03)


@some_convolutions
def test_conv_under_vmap_over_kernels_is_a_loop(shapes):
    x, kernels = operands(shapes[0], (3, *shapes[1]))
    each = with_gradients(ops.conv)
    actual = quickly(jax.vmap(each, in_axes=(None, 0)))(x, kernels)
    expected = [quickly(each)(x, kernel) for kernel in kernels]
    assert_agree(actual, jax.tree.map(lambda *leaves: np.stack(leaves), *expected))


@some_convolutions
def test_forward_mode_through_conv_is_the_plain_one(shapes):
    arguments = operands(*shapes)
    push = quickly(lambda *arguments: jax.jvp(ops.conv, arguments, tuple(map(jnp.cos, arguments))))
    assert_agree(push(*arguments), plainly(push, *arguments))


@pytest.mark.parametrize(
    "x, kernel",
    [((2, 2, 3, 1), (2, 3, 1, 2)), ((2, 4, 1), (2, 1, 2)), ((2, 3, 4, 1), (2, 2, 1, 2))],
    ids=["a whole image", "two steps", "images"],
)
def test_second_derivatives_of_conv_are_the_plain_ones(x64, x, kernel):
    """Of the sum of cubes, so that none of the blocks is constant."""
    arguments = operands(x, kernel, dtype="float64")
    cubes = lambda *arguments: jnp.sum(ops.conv(*arguments) ** 3)
    hessian = quickly(jax.hessian(cubes, argnums=(0, 1)))
    actual = hessian(*arguments)
    assert all(np.any(block) for block in jax.tree.leaves(actual))
    assert_agree(actual, plainly(hessian, *arguments), 1e-12)


@convolutions()
def test_conv_takes_an_empty_batch(shapes):
    arguments = operands((0, *shapes[0][1:]), shapes[1])
    function = quickly(with_gradients(ops.conv))
    assert_agree(function(*arguments), plainly(function, *arguments))


WHOLE = "a whole image", "a whole sequence", "a whole volume"


def counts(shapes, target):
    """Convolutions and products in the value, and in both gradients."""
    for function in (ops.conv, weighed_gradients(ops.conv, 0, 1)):
        text = lowered(function, operands(*shapes), target)
        assert "stablehlo.concatenate" not in text
        yield tuple(text.count(f"stablehlo.{name}") for name in ("convolution", "dot_general"))


@convolutions()
def test_a_tpu_gets_the_plain_conv(shapes):
    assert list(counts(shapes, "tpu")) == [(1, 0), (2, 0)]


@convolutions()
def test_a_gpu_gets_a_product_for_a_whole_image_only(shapes):
    whole = shapes in [CONVOLUTIONS[name] for name in WHOLE]
    assert list(counts(shapes, "cuda")) == ([(0, 1), (0, 2)] if whole else [(1, 0), (2, 0)])


@convolutions(*WHOLE)
def test_the_gpus_conv_of_a_whole_image_is_the_plain_one(as_on_a_gpu, shapes):
    assert_is_plain(ops.conv, *shapes)


def test_the_precision_asked_for_is_the_products_too():
    arguments = operands(*CONVOLUTIONS["a whole image"])
    precise = functools.partial(ops.conv, precision="highest")
    for target in ("cpu", "cuda"):
        assert "precision = [HIGHEST, HIGHEST]" in lowered(precise, arguments, target)
        assert "HIGHEST" not in lowered(ops.conv, arguments, target)


@convolutions(*WHOLE, "one step", "three steps", "many maps")
def test_the_cpu_gets_a_product(shapes):
    text = lowered(ops.conv, operands(*shapes), "cpu")
    assert "stablehlo.dot_general" in text
    assert "stablehlo.convolution" not in text


@convolutions("five steps", "images", "three pieces", "volumes")
def test_the_cpu_keeps_the_value_of_a_convolution(shapes):
    text = lowered(ops.conv, operands(*shapes), "cpu")
    assert text.count("stablehlo.convolution") == 1
    assert "stablehlo.dot_general" not in text


def test_the_cpus_input_gradient_of_images_pads_one_axis_only():
    """Elsewhere, a 4 x 2 window pads the gradient by 3 and by 1."""
    gradient, arguments = weighed_gradients(ops.conv, 0), operands(*CONVOLUTIONS["images"])
    for target, pad in (("cpu", "[[0, 0], [1, 1]]"), ("cuda", "[[3, 3], [1, 1]]")):
        assert f"pad = {pad}" in lowered(gradient, arguments, target)


@pytest.mark.parametrize("images, pieces", [(128, 1), (129, 2), (300, 3)])
def test_the_cpus_kernel_gradient_takes_128_images_at_a_time(images, pieces):
    arguments = operands((images, 7, 5, 2), (3, 2, 2, 3))
    text = lowered(weighed_gradients(ops.conv, 1), arguments, "cpu")
    assert text.count("stablehlo.convolution") == pieces


# --- who takes which --------------------------------------------------------------------------


def is_product(function, *arguments):
    """Whether a function is lowered, for the default platform, to products only."""
    text = function.lower(*arguments).as_text()
    product = "stablehlo.dot_general" in text
    assert product is not ("stablehlo.convolution" in text)
    return product


def test_one_jitted_function_is_lowered_as_the_context_says():
    arguments = operands(*CONVOLUTIONS["a whole image"])
    traces = []

    @jax.jit
    def function(*arguments):
        traces.append(arguments)
        return ops.conv(*arguments)

    values = []
    for plain in (False, True, False, True):
        with ops.plain_lowerings() if plain else contextlib.nullcontext():
            values.append(function(*arguments))
            assert is_product(function, *arguments) is not plain
            assert ("dot_general" in str(jax.make_jaxpr(function)(*arguments))) is not plain
    assert len(traces) == 2  # each is kept
    for value in values[1:]:
        assert_agree(value, values[0])


def test_contexts_of_plain_lowerings_nest_and_end_with_an_exception():
    arguments = operands(*CONVOLUTIONS["a whole image"])
    function = jax.jit(lambda *arguments: ops.conv(*arguments))
    with pytest.raises(ZeroDivisionError), ops.plain_lowerings():
        with ops.plain_lowerings():
            assert not is_product(function, *arguments)
        assert not is_product(function, *arguments)
        raise ZeroDivisionError
    assert is_product(function, *arguments)


PRINT_TEXT = """
import jax
from cnnjax import ops
x, kernel = (jax.ShapeDtypeStruct(s, "float32") for s in ((2, 4, 4, 1), (4, 4, 1, 2)))
print(jax.jit(ops.conv).lower(x, kernel).as_text())
"""


def test_the_environment_asks_for_the_plain_lowerings():
    finished = child(PRINT_TEXT, CNNJAX_LOWERINGS="plain")
    assert finished.returncode == 0, finished.stderr
    assert "stablehlo.convolution" in finished.stdout
    assert "stablehlo.dot_general" not in finished.stdout


def test_another_word_in_the_environment_is_an_error():
    finished = child("import cnnjax.ops", CNNJAX_LOWERINGS="Plain")
    assert finished.returncode == 1
    (message,) = finished.stderr.splitlines()[-1:]
    assert message.startswith("ValueError: CNNJAX_LOWERINGS is 'Plain'; it must be 'plain'")


# --- elementwise ------------------------------------------------------------------------------

SQUASHED = functools.partial(ops.scale_and_shift, activation=ops.scaled_tanh)
ELEMENTWISE = {
    "a map": (ops.scaled_tanh, (3, 2, 5, 1)),
    "maps": (ops.scaled_tanh, (3, 4, 6)),
    "images": (ops.scaled_tanh, (3, 4, 5, 6)),
    "no images": (ops.scaled_tanh, (0, 2, 3, 4)),
    "scaled and shifted": (ops.scale_and_shift, (3, 2, 5, 4), (4,), (4,)),
    "scaled, shifted, squashed": (SQUASHED, (3, 2, 5, 4), (4,), (4,)),
    "many maps": (SQUASHED, (3, 2, 5, 17), (17,), (17,)),
    "over time": (ops.scale_and_shift, (3, 7, 2), (2,), (2,)),
    "features": (ops.scale_and_shift, (3, 6), (6,), (6,)),
    "one example's": (ops.scale_and_shift, (6,), (6,), (6,)),
    "none of them": (ops.scale_and_shift, (0, 2, 5, 4), (4,), (4,)),
}


@pytest.mark.parametrize(
    "function, shapes", [(f, shapes) for f, *shapes in ELEMENTWISE.values()], ids=ELEMENTWISE
)
def test_over_long_rows_values_and_gradients_are_the_plain_ones(function, shapes):
    assert_is_plain(function, *shapes)


@pytest.mark.parametrize("target, on_cpu", [("cpu", True), ("cuda", False), ("tpu", False)])
@pytest.mark.parametrize("name, shape", [("images", "3x120"), ("scaled and shifted", "4x2x5x3")])
def test_long_rows_are_innermost_on_cpu_only(name, shape, target, on_cpu):
    """Of whole images, or of examples."""
    function, *shapes = ELEMENTWISE[name]
    assert (f"tensor<{shape}xf32>" in lowered(function, operands(*shapes), target)) is on_cpu


@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (3, 5, 17), (3, 4)])
def test_an_activation_follows_scale_and_shift(shape):
    x, scale, shift = operands(shape, shape[-1:], shape[-1:])
    found = ops.scale_and_shift(x, scale, shift, activation=jnp.sin)
    np.testing.assert_allclose(found, np.sin(x * scale + shift), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shapes", [((3, 5), (5,), (4,)), ((3, 5), (1,), (5,)), ((5,), (3,), (3,))])
def test_a_scale_or_shift_of_another_shape_is_refused(shapes):
    with pytest.raises(ValueError, match=r"one per map; their shapes are"):
        ops.scale_and_shift(*operands(*shapes))
