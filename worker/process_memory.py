"""Memory of this process: return it to the machine, and count the kernel's out-of-memory kills.

A SIGKILL alone does not show who sent it.
"""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

# This container's own count, and the whole machine's.
OOM_KILL_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def oom_kill_count() -> int:
    """Return a count that grows with each out-of-memory kill; 0 where the system has no such counter."""
    kills = 0
    for counter in OOM_KILL_COUNTERS:
        with suppress(OSError, ValueError):
            lines = (line.split() for line in counter.read_text().splitlines())
            kills += sum(int(line[1]) for line in lines if line[0] == "oom_kill")
    return kills


def trim_heap() -> None:
    """Return freed memory to the machine, because the C library keeps it in fragments. Takes milliseconds."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # a C library of another kind
            ctypes.CDLL(None).malloc_trim(0)
