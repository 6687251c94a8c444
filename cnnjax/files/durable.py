"""Files that are written whole or not at all, and the checksums of what was written."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """The SHA-256 of a file as it is stored."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(digests: Iterable[str]) -> str:
    """Twelve letters for files of these SHA-256, which tell their preparation from others'."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def checksums(directory: Path) -> bytes:
    """The SHA-256 of every file below ``directory``, in the format of ``sha256sum -c``."""
    lines = [
        f"{sha256(path)}  {path.relative_to(directory.parent)}\n"
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    return "".join(lines).encode(errors="surrogateescape")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all; names that are not UTF-8 as the system has them."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode(errors="surrogateescape"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Inside, a file to write; afterwards it is the one at ``path``, or is gone after an error.

    Several processes may do it at once: one of their files is there in the end, whole.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
