"""Mutated files, read one by one in children with limits, and what became of each."""

import collections
import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.errors import UserError
from tests.fuzz.mutations import mutated
from tests.fuzz.reader import Reader

SECONDS = 2.0
MEMORY, PER_BYTE = 64 << 20, 3
"""A read may take so much processor time, and so much memory beside so many times the file."""

_AT_ONCE = 500  # inputs of a child
_ROOM = 2 << 30  # of address space, beyond which memory is refused
_MOST_SILENT = 60  # seconds without a sign of life


class _TooLong(BaseException):
    """Nothing that a reader catches."""


@dataclasses.dataclass(frozen=True)
class Bad:
    """An input that ended badly."""

    number: int
    content: bytes
    why: str


def campaign(reader: Reader, inputs: int, seed: int) -> tuple[collections.Counter, list[Bad]]:
    """Read ``inputs`` mutated files.

    Returns:
        How many were "read" and "refused", and those that ended badly: with an exception, after
        too long, with too much memory, or, where that can be told, silently with other values.
    """
    seeds = list(reader.seeds())
    expected = {_value(reader, content) for content in seeds}
    counts, bad = collections.Counter(), []
    done = 0
    while done < inputs:
        last = min(done + _AT_ONCE, inputs)
        number = done
        for number, word in _in_child(reader, seeds, expected, seed, range(done, last)):
            counts[word if word in ("read", "refused") else "bad"] += 1
            if word not in ("read", "refused"):
                bad.append(Bad(number, _content(reader, seeds, seed, number), word))
        done = number + 1
    return counts, bad


def _content(reader: Reader, seeds: list[bytes], seed: int, number: int) -> bytes:
    return mutated(seeds, reader.tokens, random.Random(f"{seed} {number}"))


def _value(reader: Reader, content: bytes) -> str:
    """The digest of what a valid file holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / reader.name
        path.write_bytes(content)
        return digest(reader.read(path))


def _in_child(
    reader: Reader, seeds: list[bytes], expected: set[str], seed: int, numbers: range
) -> Iterator[tuple[int, str]]:
    """(number, what became of it), until all are read or one has ended the child."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of JAX's threads, of which there is none yet
        child = os.fork()
    if not child:
        ours.close()
        with contextlib.suppress(BaseException):
            _read_all(reader, seeds, expected, seed, numbers, theirs)
        os._exit(0)
    theirs.close()
    with ours:
        for number in numbers:
            try:
                word = ours.recv() if ours.poll(_MOST_SILENT) else None
            except EOFError:
                word = None
            if word is None:
                os.kill(child, signal.SIGKILL)  # of one that is dead and not waited for, too
                _, status = os.waitpid(child, 0)
                yield number, f"ended the process or hung (status {status})"
                return
            yield number, word
    os.waitpid(child, 0)


def _read_all(reader, seeds, expected, seed, numbers, answers) -> None:
    """In the child: a word for every input."""
    devnull = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(devnull, stream)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ROOM, size + _ROOM))
    signal.signal(signal.SIGPROF, _too_long)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / reader.name
        for number in numbers:
            content = _content(reader, seeds, seed, number)
            path.write_bytes(content)
            answers.send(outcome(reader, path, expected))


def outcome(reader: Reader, path: Path, expected: set[str]) -> str:
    """ "read", "refused", or what went wrong with it."""
    before = _reset_peak()
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        found = reader.read(path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        word = "read"
        if reader.checked and digest(found) not in expected:
            word = "silently other values"
    except UserError as error:
        word = _told(str(error))
    except OSError as error:
        word = "refused" if error.errno is not None else _traceback()
    except _TooLong:
        word = "took too long"
    except BaseException:
        word = _traceback()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds, grown = time.process_time() - start, peak() - before
    if word in ("read", "refused") and grown > MEMORY + PER_BYTE * path.stat().st_size:
        return f"took {grown >> 20} MB of memory for {path.stat().st_size:,} bytes"
    return f"took {seconds:.1f} s" if word in ("read", "refused") and seconds > SECONDS else word


def _told(message: str) -> str:
    if "more memory than there is" in message:
        return f"asked for too much memory: {message}"
    return "refused" if message and "\n" not in message else f"not one line: {message!r}"


def _traceback() -> str:
    return traceback.format_exc(limit=-4)


def _too_long(number: int, frame: object) -> None:
    raise _TooLong


def _reset_peak() -> int:
    """Forget the peak of this process's memory; what it has now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most memory that this process has had since, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def digest(value: Any) -> str:
    """Of arrays in dicts, sequences and dataclasses: names, types, shapes and bytes."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype}{value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Mapping):
            for key, one in value.items():
                found.update(repr(key).encode(errors="surrogateescape"))
                add(one)
        elif isinstance(value, list | tuple):
            found.update(str(len(value)).encode())
            for one in value:
                add(one)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            add(vars(value))
        else:
            found.update(repr(value).encode(errors="surrogateescape"))

    add(value)
    return found.hexdigest()
