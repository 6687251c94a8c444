"""``jax.jit`` with the compiler options that our programs want."""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jaxlib

# XLA's default convolution on CPU is a YNNPACK fusion, 1-5 times slower on small networks than
# the Eigen path it replaced (jaxlib 0.10.2).  Fusing reductions only gives the Eigen path back.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}

# Of LLVM: drawing initial weights takes it 2.5 s to optimise as it does by default, and 0.6 s at
# level 1; the draw, 5 ms either way, is the same to the last bit (at level 0 it is not).
_QUICK_OPTIONS = {"xla_backend_optimization_level": 1}


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """The options for the default backend, or None where there are none or it knows them not."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=_CPU_OPTIONS).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return _CPU_OPTIONS


def run_where_called() -> None:
    """Run programs for one CPU device in the thread that calls them instead of one of JAX's.

    The temporaries of what the main thread calls are then its own memory, which is kept
    (:func:`cnnjax.runtime.allocator.keep_memory`); from other threads the C library takes back what
    exceeds 64 MiB after every call.  It concerns the whole process, so only programs call it, never
    an import; once JAX has computed something, it has no effect.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def cache_programs(folder: Path) -> None:
    """Keep what is compiled from now on in ``folder``, for later processes.

    It concerns the whole process, so only programs call it, never an import.  A folder that
    cannot be written is no error: programs are then compiled as if there were none.
    """
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def jit(function: Callable, *, seldom: bool = False, **options: Any) -> Callable:
    """``jax.jit`` with :func:`compiler_options`; they end with this function's own programs.

    Args:
        function: to be compiled.
        seldom: it is called so seldom that compiling it quickly matters more than its own speed.
        options: of ``jax.jit``.
    """
    ours = compiler_options()
    if seldom and ours is not None:
        ours = {**ours, **_QUICK_OPTIONS}
    return jax.jit(function, compiler_options=ours, **options)


def fingerprint(function: Callable, *arguments: Any) -> str:
    """SHA-256 of all that ``function`` computes for arguments of these shapes, and by what.

    It is of the program itself, as JAX hands it to the compiler, so that no change of source, of
    settings, versions or hardware that matters goes unnoticed.
    """
    device = jax.devices()[0]
    parts = (
        jax.jit(function).lower(*arguments).as_text(),
        jax.__version__,
        jaxlib.__version__,  # pyright: ignore[reportPrivateImportUsage]
        device.platform, device.device_kind,
        str(compiler_options()),
    )  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
