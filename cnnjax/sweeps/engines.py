"""Who trains the jobs of a sweep: this process, one process a core, or a Ray cluster."""

import concurrent.futures
import multiprocessing
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from cnnjax.errors import UserError, reason
from cnnjax.runtime.cores import cores
from cnnjax.sweeps.jobs import Job, run_job
from cnnjax.sweeps.rows import Row
from cnnjax.sweeps.trials import shared

Engine = Callable[[Sequence[Job]], Iterator[Row]]
"""Jobs -> their rows, each as soon as there is one, in any order."""

_TRIES = 3


def here(jobs: Sequence[Job]) -> Iterator[Row]:
    """One job after the other, in this process."""
    for job in jobs:
        yield from run_job(job)


def processes(workers: int, prepare: Callable[[], None]) -> Engine:
    """``workers`` processes of this machine, which share its cores evenly.

    A small network's step on CPU leaves part of two cores idle; one training a core leaves none.
    A process goes on with trials of the program that it has compiled, as long as there are any.
    When a process dies, the jobs without rows are given to new ones; after three deaths without
    a row in between, that is an error.

    Args:
        workers: how many.
        prepare: called in each process before its first job; can be pickled.
    """

    def run(jobs: Sequence[Job]) -> Iterator[Row]:
        left, deaths = dict(enumerate(jobs)), 0
        while left:
            try:
                for number, rows in _in_pool(left, workers, prepare):
                    del left[number]
                    deaths = 0
                    yield from rows
            except BrokenProcessPool:
                deaths += 1
                if deaths == _TRIES:
                    raise _deaths(_TRIES, left.values()) from None

    return run


def on_ray(prepare: Callable[[], None]) -> Engine:
    """Ray's scheduler: the cluster at ``$RAY_ADDRESS``, or that of this machine, or a new one here.

    The machines of a cluster have the checkout, the current folder and the data under the same
    paths.  Every job takes one core, or one GPU where the cluster has GPUs; Ray ends the process of
    a GPU's job with it, so there a job should have many trials.  Ray gives the job of a worker that
    died to another.

    Args:
        prepare: as in :func:`processes`.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            "--engine=ray needs Ray, which is not installed: pip install -e '.[ray]'"
        ) from None

    def run(jobs: Sequence[Job]) -> Iterator[Row]:
        if not jobs:
            return
        own, left = not ray.is_initialized(), {}
        try:
            if own:
                _connect(ray.init)
            resource = "num_gpus" if ray.cluster_resources().get("GPU") else "num_cpus"
            task = ray.remote(**{resource: 1}, max_retries=_TRIES)(_rows_on_ray)
            shared = ray.put((os.getcwd(), os.environ.get("TFDS_DATA_DIR"), prepare))
            left = {task.remote(job, shared): job for job in jobs}
            while left:
                (ended,), _ = ray.wait(list(left))
                rows = ray.get(ended)
                del left[ended]
                yield from rows
        except ray.exceptions.WorkerCrashedError:
            raise _deaths(_TRIES + 1, [left[ended]]) from None
        except ray.exceptions.RayTaskError as error:  # its own text has a traceback
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            kind = type(error.cause).__name__
            raise UserError(f"a job ended in {kind}: {reason(error.cause)}") from None
        except ray.exceptions.RayError as error:
            raise UserError(f"Ray: {reason(error)}") from None
        finally:
            if own:
                ray.shutdown()

    return run


def _connect(init: Callable[..., Any]) -> None:
    """Call ``ray.init`` without its noise; what fails is said in one line."""
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:
            # Ray itself takes minutes to notice that nobody listens there.
            socket.create_connection((host, int(port)), timeout=10).close()
        with warnings.catch_warnings():
            # JAX's, of any fork; Ray's is followed by exec.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            init(log_to_driver=False, include_dashboard=False, logging_level="error")
    except Exception as error:
        where = f"RAY_ADDRESS={address}" if address else "Ray"
        raise UserError(f"{where}: no Ray cluster could be used: {reason(error)}") from None
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler aborts the process; a request to end is as good as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _rows_on_ray(job: Job, shared: tuple[str, str | None, Callable[[], None]]) -> list[Row]:
    folder, data_dir, prepare = shared
    # The workers of a cluster that exists already know nothing of our command line's.
    os.chdir(folder)
    if data_dir:
        os.environ["TFDS_DATA_DIR"] = data_dir
    # Ray keeps its worker processes: the backend has started if this is not the first job.
    use_threads(1)
    prepare()
    return _rows(job)


def _deaths(times: int, jobs: Iterable[Job]) -> UserError:
    numbers = [str(trial.number) for job in jobs for trial in job.trials]
    return UserError(
        f"a worker process died {times} times in a row (out of memory?) at one of the trials "
        f"{', '.join(numbers[:8])}; the rows there are, are kept"
    )


def _in_pool(
    jobs: Mapping[int, Job], workers: int, prepare: Callable[[], None]
) -> Iterator[tuple[int, list[Row]]]:
    context = multiprocessing.get_context("spawn")
    # The workers hold one end of a pipe: it closes when this process ends, however it does.
    ours, theirs = context.Pipe()
    threads = max(1, cores() // workers)
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_begin, initargs=(theirs, threads, prepare)
    )
    order: dict[Any, int] = {}
    program = {
        number: order.setdefault(shared(job.trials[0].config), len(order))
        for number, job in jobs.items()
    }
    waiting, running = list(jobs), {}

    def submit(last: int | None = None) -> None:
        """The next job of the program ``last``, or else of one that nobody has at the moment."""
        taken = {program[number] for number in running.values()}
        number = min(waiting, key=lambda n: (program[n] != last, program[n] in taken))
        waiting.remove(number)
        running[pool.submit(_rows, jobs[number])] = number

    try:
        for _ in range(min(workers, len(waiting))):
            submit()
        while running:
            ended, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            # Rows that are there before the deaths of other workers, which end the pool.
            for future in sorted(ended, key=lambda future: future.exception() is not None):
                number, rows = running.pop(future), future.result()
                yield number, rows
                if waiting:  # for the worker that has just ended, the only idle one
                    submit(program[number])
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)


def _rows(job: Job) -> list[Row]:
    return list(run_job(job))


def _begin(parent: Connection, threads: int, prepare: Callable[[], None]) -> None:
    """Make a worker end with its parent, use its share of the cores, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    use_threads(threads)
    prepare()


def _end_with(parent: Connection) -> None:
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)


def use_threads(count: int) -> None:
    """Let XLA's CPU backend, which must not have started, compute with so many threads."""
    os.environ["NPROC"] = str(count)  # read by XLA's DefaultThreadPoolSize
