"""Files that are written whole or not at all, and the checksums of what was written."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def checksums(directory: Path) -> bytes:
    """The SHA-256 of every file below ``directory``, in the format of ``sha256sum -c``."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory.parent)}\n"
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    return "".join(lines).encode()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
