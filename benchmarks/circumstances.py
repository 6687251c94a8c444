"""Where, when and by what something was measured beside PyTorch."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnjax.run_directory import source_revision, versions


def circumstances() -> dict[str, Any]:
    """ "date", "machine", "versions" and "source" of a result file."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": _machine(),
        "versions": versions() | {"torch": version("torch")},
        "source": source_revision(),
    }


def _machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
