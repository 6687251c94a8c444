"""The C library's allocator, told to keep what it has.

By default glibc maps every large temporary anew and unmaps it again, so that each training step
on CPU touches fresh pages; page faults then cost up to several times the computation.
"""

import ctypes
import sys

# From glibc's malloc.h: parameter -> value.  Values are C ints.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SETTINGS = {
    _M_MMAP_MAX: 0,
    _M_TRIM_THRESHOLD: 2**31 - 1,
    _M_TOP_PAD: 256 * 2**20,
}


def keep_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the system.

    It concerns the whole process, so only programs call it (``launch.py``, the benchmarks), never
    an import; call it before the first large allocation.  The memory of the main thread then stays
    at its peak, and grows in steps of 256 MiB; other threads, each with an arena of its own, give
    back what exceeds 64 MiB (hence :func:`cnnjax.runtime.compilation.run_where_called`).

    Returns:
        Whether it could be done: on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    accepted = [mallopt(parameter, value) for parameter, value in _SETTINGS.items()]
    return all(accepted)
