"""A contestant in a process of its own, where no other's memory and threads are in its way."""

import contextlib
import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Self

from cnnjax.runtime.allocator import keep_memory

Run = Callable[[int], Any]
"""``run(steps)``; what it returns can be pickled."""


class OwnProcess:
    """``run`` in a process that lives as long as the context.

    Args:
        build: makes ``run``, there; can be pickled.

    Raises:
        EOFError: where a result is waited for, if the process has died.
    """

    def __init__(self, build: Callable[[], Run]):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build), daemon=True)
        self._process.start()
        theirs.close()  # so that its death is an end of file here

    def __enter__(self) -> Self:
        self.result()  # it is ready
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join()

    def start(self, steps: int) -> None:
        """Begin with ``run(steps)``."""
        self._connection.send(steps)

    def result(self) -> Any:
        """Wait for what has been begun."""
        return self._connection.recv()

    def __call__(self, steps: int) -> Any:
        """``run(steps)``."""
        self.start(steps)
        return self.result()


@contextlib.contextmanager
def own_processes(
    build: Callable[[str], Run], names: Iterable[str]
) -> Iterator[dict[str, OwnProcess]]:
    """``build(name)`` for every name, each in a process of its own; by name."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(OwnProcess(functools.partial(build, name))) for name in names
        }


def _serve(connection: Connection, build: Callable[[], Run]) -> None:
    keep_memory()
    run = build()
    connection.send(None)
    with contextlib.suppress(EOFError):  # the end
        while True:
            connection.send(run(connection.recv()))
