"""Memory: what this process gives back of it or may take, and how often the kernel has killed a process for want of it.

A SIGKILL alone does not tell who sent it.
"""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path

# This container's own count, and the whole machine's.
OOM_KILL_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def oom_kill_count() -> int:
    """A count that grows with each such kill; 0 where the system does not tell."""
    found = 0
    for counter in OOM_KILL_COUNTERS:
        with suppress(OSError, ValueError):
            lines = (line.split() for line in counter.read_text().splitlines())
            found += sum(int(line[1]) for line in lines if line[0] == "oom_kill")
    return found


def trim_heap() -> None:
    """Return what was freed to the machine: the C library would rather keep it, in pieces. Takes milliseconds."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # a C library of another kind
            ctypes.CDLL(None).malloc_trim(0)


def limit_address_space(extra_bytes: int) -> None:
    """Let this process take so many bytes more than it has, on Linux, and leave no dump behind anywhere.

    It is for a process that runs what strangers wrote: want of memory is a MemoryError, or its end.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + extra_bytes, used + extra_bytes))
