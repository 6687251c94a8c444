"""By what a figure was made: versions, source, and the command that makes it again."""

import functools
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


@functools.cache
def provenance() -> dict[str, Any]:
    """By what this process trains: "versions" and "source"."""
    return {"versions": versions(), "source": source_revision()}


def versions() -> dict[str, str]:
    """Versions of everything that figures depend on."""
    found = {"cnnjax": __version__, "python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def source_revision() -> str | None:
    """The git commit of the source, with "+" if it has changes; None outside a checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    try:
        top = _run([*git, "rev-parse", "--show-toplevel", "HEAD"])
        changes = _run([*git, "status", "--porcelain", "-uno"])
    except OSError:
        return None
    if top.returncode or Path(top.stdout.split()[0]).resolve() != root.resolve():
        return None
    return top.stdout.split()[1] + ("+" if changes.stdout else "")


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def command(arguments: Sequence[str]) -> str:
    """A command line that a person can paste, of the program that was called."""
    program = [Path(sys.executable).name, "launch.py"]
    if Path(sys.argv[0]).name == "cnnjax":  # where the package is installed
        program = ["cnnjax"]
    return shlex.join([*program, *arguments])
