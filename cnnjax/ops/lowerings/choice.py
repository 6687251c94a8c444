"""Which of several equivalent lowerings a function takes.

A function that has a faster lowering for the CPU or for NVIDIA's GPUs takes it where it is compiled
for these; everywhere else, and where the plain lowering is asked for, it is the plain composition
of ``lax`` operations.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

_VARIABLE = "CNNJAX_LOWERINGS"
_WORDS = {"": False, "fast": False, "plain": True}


def _asked_for() -> bool:
    word = os.environ.get(_VARIABLE, "")
    if word not in _WORDS:
        raise ValueError(f"{_VARIABLE} is {word!r}; it must be 'plain', 'fast' or absent")
    return _WORDS[word]


# A part of jit's cache key: a function that was compiled outside is compiled anew inside.
_plain = jax.make_user_context(_asked_for())


def plain_lowerings() -> contextlib.AbstractContextManager:
    """A context in which every function is lowered plainly, for comparison.

    The environment variable ``CNNJAX_LOWERINGS=plain`` does the same for a whole process.
    """
    return _plain(True)


def choose(*operands: Any, plain: Callable[..., Any], **faster: Callable[..., Any]) -> Any:
    """``faster[platform](*operands)`` where this is lowered for that platform, else ``plain``'s.

    Args:
        operands: arrays.
        plain: of all other platforms.
        faster: by platform, ``cpu`` and ``cuda``, as :func:`jax.lax.platform_dependent` names them.
    """
    if _plain.value or not faster:
        return plain(*operands)
    return lax.platform_dependent(*operands, default=plain, **faster)
