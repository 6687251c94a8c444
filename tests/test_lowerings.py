"""The CPU's lowerings against the plain ones, who takes which, and what else is kept for speed."""

import contextlib
import functools
import itertools
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import allocator, ops

ROOT = Path(__file__).parent.parent

# The optimiser of machine code is most of these tests' time; some leave it on.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


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


def child(code, *arguments, **environment):
    """A finished Python process on CPU."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


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
    "volumes": ((2, 5, 4, 6, 2), (3, 2, 2, 2, 3)),
}


def convolutions(*names):
    shapes = [CONVOLUTIONS[name] for name in names or CONVOLUTIONS]
    return pytest.mark.parametrize("shapes", shapes, ids=names or list(CONVOLUTIONS))


@convolutions()
def test_conv_and_its_gradients_equal_the_plain_ones(shapes):
    assert_is_plain(ops.conv, *shapes, jit=jax.jit)


def test_a_strided_padded_or_grouped_conv_stays_as_it_is():
    arguments = operands((2, 7, 8, 2), (3, 2, 1, 4))
    options = {"strides": 2, "padding": "same", "groups": 2}
    function = quickly(with_gradients(functools.partial(ops.conv, **options)))
    assert_agree(function(*arguments), plainly(function, *arguments), 0)


@convolutions("a whole image", "two steps", "images", "three pieces")
@pytest.mark.parametrize("argnum", [0, 1], ids=["input", "kernel"])
def test_the_gradient_in_one_operand_alone_is_the_plain_one(shapes, argnum):
    arguments = operands(*shapes)
    gradient = quickly(weighed_gradients(ops.conv, argnum))
    assert_agree(gradient(*arguments), plainly(gradient, *arguments))


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


@convolutions()
def test_accelerators_get_the_plain_conv(shapes):
    arguments = operands(*shapes)
    functions = (ops.conv, 1), (weighed_gradients(ops.conv, 0, 1), 2)
    for (function, count), target in itertools.product(functions, ("cuda", "tpu")):
        text = lowered(function, arguments, target)
        assert text.count("stablehlo.convolution") == count
        assert "stablehlo.dot_general" not in text
        assert "stablehlo.concatenate" not in text


@convolutions("a whole image", "a whole sequence", "a whole volume", "one step", "three steps")
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


# --- the derivative of scaled_tanh ------------------------------------------------------------


def test_scaled_tanhs_derivatives_are_the_formulas(x64):
    @quickly
    def derivatives(a):
        f = ops.scaled_tanh
        second = jax.grad(jax.grad(f)), jax.jacfwd(jax.jacfwd(f)), jax.hessian(f)
        return (
            jax.vmap(jax.grad(f))(a),
            jax.vmap(jax.jacfwd(f))(a),
            *(jax.vmap(g)(a) for g in second),
        )

    a = np.linspace(-9, 9, 1001)
    t = np.tanh(2 / 3 * a)
    first = 1.7159 * 2 / 3 * (1 - t**2)
    second = -2 * 1.7159 * (2 / 3) ** 2 * t * (1 - t**2)
    expected = first, first, second, second, second
    for found, formula in zip(derivatives(a), expected, strict=True):
        np.testing.assert_allclose(found, formula, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scaled_tanhs_derivative_is_never_negative(dtype):
    """Also where it saturates, although it is a difference of rounded numbers there."""
    a = np.linspace(-20, 20, 2001).astype(jnp.dtype(dtype))
    slope = jax.jit(jax.vmap(jax.grad(ops.scaled_tanh)))(a)
    assert slope.dtype == dtype
    assert np.all(slope >= 0)


# --- memory that is kept ----------------------------------------------------------------------

PRINT_FAULTS = """
import json, resource, sys
import numpy as np
from cnnjax.allocator import keep_memory

kept = keep_memory() if sys.argv[1] == "keep" else None
touch = lambda: np.ones(64 * 2**20, np.uint8)[-1]
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch(), touch()
before = faults()
for _ in range(5):
    touch()
print(json.dumps([kept, faults() - before]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_kept_memory_is_not_mapped_again(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)

    def faults(word):
        finished = child(PRINT_FAULTS, word, NUMPY_MADVISE_HUGEPAGE="0")
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout)

    (kept, few), (_, many) = faults("keep"), faults("return")
    assert kept is True
    assert many >= 5 * 32  # 2 MiB is the largest page
    assert few < 20


def test_another_system_or_c_library_keeps_no_memory(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace())
        patch.setattr(allocator.sys, "platform", "linux")
        assert allocator.keep_memory() is False
    with monkeypatch.context() as patch:
        patch.setattr(allocator.sys, "platform", "darwin")
        assert allocator.keep_memory() is False


# --- programs that are kept -------------------------------------------------------------------

PRINT_GRADIENT = """
import sys
from pathlib import Path
import jax, numpy as np
from cnnjax import ops
from cnnjax.training.compilation import cache_programs, jit

cache_programs(Path(sys.argv[1]))
shapes = (2, 28, 28, 1), (5, 5, 1, 4), (5, 5, 4, 8)
network = lambda x, *kernels: ops.conv_pool(ops.conv_pool(x, kernels[0]), kernels[1]).sum()
gradients = jit(jax.grad(network, (0, 1, 2)))(*(np.ones(shape, np.float32) for shape in shapes))
print([float(np.sum(gradient)) for gradient in gradients])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Two processes that compile the same, with the programs there are after each."""
    folder = tmp_path_factory.mktemp("compiled") / "new"
    after = []
    for _ in range(2):
        finished = child(PRINT_GRADIENT, folder)
        assert finished.returncode == 0, finished.stderr
        programs = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
        after.append((finished.stdout, programs))
    return after


def test_a_later_process_compiles_nothing_anew(compiled):
    (value, programs), (same_value, same_programs) = compiled
    assert any("jit" in name for name in programs)
    assert same_programs == programs
    assert same_value == value


def test_a_folder_that_cannot_be_written_is_no_error(compiled, tmp_path):
    (tmp_path / "file").touch()
    finished = child(PRINT_GRADIENT, tmp_path / "file" / "compiled")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == compiled[0][0]
