"""A folder of files that a process holds, and that are written whole or not at all."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from cnnjax.errors import ArgumentError, UserError


class Directory:
    """JSON files and files of rows, at ``path``."""

    fields: ClassVar[Mapping[str, Mapping[str, type]]] = {}
    """What a JSON file must hold to be read on: file -> field -> type."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Make the folder where it is missing, and hold it for this process.

        Raises:
            UserError: it cannot be written, or another process holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w")
        except OSError as error:
            raise self.refused(
                f"cannot be written ({error.strerror}); name another folder"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self.refused("another process is running there") from None
            yield

    def is_used(self, marker: str, kind: str) -> bool:
        """Whether the folder holds a ``kind``, which has the file ``marker``, or is free.

        Raises:
            UserError: it is a file, or holds other files.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise self.refused("is a file; name a folder")
        if (self.path / marker).exists():
            return True
        others = sorted(path.name for path in self.path.iterdir() if path.name != ".lock")
        if others:
            raise self.refused(
                f"holds files but no {kind} ({marker} is missing; there is {others[0]}); name an "
                f"empty or a new folder"
            )
        return False

    def refused(self, what: str) -> ArgumentError:
        """The error that says what is wrong with the folder."""
        return ArgumentError("workdir", self.path, what)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            UserError: it is missing or damaged.
        """
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such file; is this the right folder?") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise UserError(f"{path}: is damaged (it is no JSON object)")
        for field, kind in self.fields.get(name, {}).items():
            if not isinstance(content.get(field), kind):
                raise UserError(f"{path}: is damaged ({field!r} is missing or of another type)")
        return content

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a .jsonl file; a last line that a kill cut short is left out."""
        path = self.path / name
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def append_row(self, name: str, row: Mapping[str, Any]) -> None:
        """Add one row to a .jsonl file."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
