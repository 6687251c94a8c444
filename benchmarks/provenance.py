"""Where, when and by what something was measured beside PyTorch, and with how much memory."""

import datetime
import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnjax.experiment.provenance import source_revision, versions


def provenance() -> dict[str, Any]:
    """ "date", "machine", "versions" and "source" of a result file."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": _machine(),
        "versions": versions() | {"torch": version("torch")},
        "source": source_revision(),
    }


def peak_mb() -> float:
    """The most memory that this process has had, in MB.

    Linux's own figure: ``ru_maxrss`` of a child begins with what its parent had.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def _machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
