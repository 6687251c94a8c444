"""One program in several processes: joining them, and keeping them of one mind.

Every process holds the whole data set and takes every step; each computes its devices' share of
a batch.  Process 0, the leader, alone reads and writes the run's files and talks to the user.

What keeps the others from waiting for ever in a collective that one does not enter: whatever a
process finds out alone (a signal, the time, a file, an error) is shared before anyone acts on it,
by the functions below.  Each is called by all processes, in the same order, and costs some
milliseconds; in a program of one process it costs nothing.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnnjax.errors import ArgumentError, UserError, reason, system_reason

_AUTO = "auto"
_CONNECT_SECONDS = 300
# An error that could not be shared ends its process; the others follow after this long.
_SHUTDOWN_SECONDS = 30
_MESSAGE_BYTES = 1024

Result = TypeVar("Result")


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the processes of one program; before jax's first computation.

    Args:
        coordinator: HOST:PORT of process 0, "auto" where jax finds it out (SLURM, Open MPI,
            Kubernetes, TPU pods), or None for a program of one process.
        num_processes: how many there are.
        process_id: which is this, from 0.

    Raises:
        UserError: arguments that are missing, superfluous or out of range; nothing that "auto"
            finds; a port that is in use, or where nobody answers for 5 minutes.
    """
    if coordinator is None and num_processes is None and process_id is None:
        return
    if coordinator == _AUTO:
        if num_processes is not None or process_id is not None:
            raise ArgumentError("coordinator", _AUTO, "finds num_processes and process_id itself")
        address = {}
    else:
        host, port = _address(coordinator, num_processes, process_id)
        if process_id == 0:
            _require_free(port)
        else:
            _wait_for(host, port)
        address = {
            "coordinator_address": coordinator,
            "num_processes": num_processes,
            "process_id": process_id,
        }
    # Its handler would swallow SIGTERM; ours tells the others in :func:`largest`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **address,
            initialization_timeout=_CONNECT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        what = reason(error)
        if not address:
            what = (
                f"jax finds no cluster here ({what}); name coordinator=HOST:PORT, num_processes=N "
                f"and process_id=I"
            )
        raise ArgumentError("coordinator", coordinator, what) from None


def several() -> bool:
    """Whether this program has more than one process."""
    return jax.process_count() > 1


def is_leader() -> bool:
    """Whether this process is the one that writes and speaks; starts no backend."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def largest(*numbers: int) -> tuple[int, ...]:
    """For every place, the largest of the processes' int32 numbers."""
    if not several():
        return numbers
    gathered = multihost_utils.process_allgather(np.array(numbers, np.int32))
    return tuple(int(number) for number in gathered.max(0))


def together(function: Callable[[], Result]) -> Result:
    """``function()``, in every process; what goes wrong in one is an error in all.

    Raises:
        UserError: in every process, if any of them had a UserError or OSError.
    """
    if not several():
        return function()
    result, message = _attempt(function)
    _share(message)
    return result


def leader_first(function: Callable[[], Result]) -> Result:
    """:func:`together`, but the others begin when the leader has finished.

    What it prepared on a disk that all see, they find there.
    """
    if not several():
        return function()
    result: Any = None
    for turn in (True, False):
        message = ""
        if is_leader() is turn:
            result, message = _attempt(function)
        _share(message)
    return result


def from_leader(function: Callable[[], Result]) -> Result:
    """``function()``, called by the leader only; its result, plain JSON, is that of all.

    Raises:
        UserError: in every process, if the leader had a UserError or OSError.
    """
    if not several():
        return function()
    result: Any
    result, message = _attempt(function) if is_leader() else (None, "")
    _share(message)
    content = json.dumps(result).encode()
    (size,) = largest(len(content) if is_leader() else 0)
    buffer = np.zeros(-(-size // _MESSAGE_BYTES) * _MESSAGE_BYTES, np.uint8)
    if is_leader():
        buffer[:size] = np.frombuffer(content, np.uint8)
    shared = multihost_utils.broadcast_one_to_all(buffer)[:size].tobytes()
    return result if is_leader() else json.loads(shared)


def require_same(**own: Any) -> None:
    """Check that every process has the same of these plain JSON values.

    Raises:
        UserError: in every process, if one differs from the leader's; names which.
    """
    if not several():
        return
    leaders = from_leader(lambda: own)
    here = json.loads(json.dumps(own))
    different = [name for name in own if here[name] != leaders[name]]

    def check() -> None:
        if different:
            raise UserError(f"its {' and '.join(different)} differs from that of process 0")

    together(check)


def arrays_from_leader(tree: Any) -> Any:
    """The leader's arrays, bit for bit, as NumPy's; the others give shapes and types alike."""
    host = jax.tree.map(np.asarray, tree)
    if not several():
        return host
    # As bytes: a broadcast is a sum with zeros, which turns -0.0 into 0.0.
    as_bytes = lambda array: np.frombuffer(array.tobytes(), np.uint8)
    restored = lambda data, like: np.frombuffer(data.tobytes(), like.dtype).reshape(like.shape)
    shared = multihost_utils.broadcast_one_to_all(jax.tree.map(as_bytes, host))
    return jax.tree.map(restored, shared, host)


def _attempt(function: Callable[[], Any]) -> tuple[Any, str]:
    """Its result, or what went wrong."""
    try:
        return function(), ""
    except OSError as error:
        return None, system_reason(error)
    except UserError as error:
        return None, reason(error)


def _share(message: str) -> None:
    """Raise, in every process, the first process's message that is not empty."""
    buffer = np.zeros(_MESSAGE_BYTES, np.uint8)
    content = np.frombuffer(message.encode()[:_MESSAGE_BYTES], np.uint8)
    buffer[: len(content)] = content
    for process, shared in enumerate(multihost_utils.process_allgather(buffer)):
        text = shared.tobytes().rstrip(b"\0").decode(errors="ignore")
        if text:
            raise UserError(text if process == 0 else f"process {process}: {text}")


def _address(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> tuple[str, int]:
    given = {
        "coordinator=HOST:PORT": coordinator,
        "num_processes=N": num_processes,
        "process_id=I": process_id,
    }
    if coordinator is None or num_processes is None or process_id is None:
        missing = [flag for flag, value in given.items() if value is None]
        raise UserError(f"{' and '.join(missing)}: missing; the three go together")
    if num_processes < 1:
        raise ArgumentError("num_processes", num_processes, "must be at least 1")
    if not 0 <= process_id < num_processes:
        raise ArgumentError(
            "process_id",
            process_id,
            f"must be from 0 to {num_processes - 1} with num_processes={num_processes}",
        )
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise ArgumentError("coordinator", coordinator, "must be HOST:PORT, or auto")
    return host.strip("[]"), int(port)


def _require_free(port: int) -> None:
    """Raise UserError if another program listens on ``port``; the service would crash."""
    try:
        with socket.create_server(("", port)):
            pass
    except OSError as error:
        what = f"the port cannot be used here ({os.strerror(error.errno or 0)}); name another"
        raise ArgumentError("coordinator", f"HOST:{port}", what) from None


def _wait_for(host: str, port: int) -> None:
    """Wait until process 0 listens; the client's own waiting ends in an abort."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                what = (
                    f"no answer in {_CONNECT_SECONDS} s ({system_reason(error)}); is process 0 "
                    f"running there?"
                )
                raise ArgumentError("coordinator", f"{host}:{port}", what) from None
            time.sleep(0.1)
