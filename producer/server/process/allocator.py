"""The memory that the C library keeps for the next response, where it would return it to the system each time.

A page of 1,000 results is copied several times on its way out, 700 kB each. With the library's defaults the system
mapped and cleared that memory for each page, which took up to a millisecond: more than the copies.
"""

import ctypes
import os
from contextlib import suppress

# `mallopt(3)`: parameters of glibc, whose environment variables go first. Each thread that reads pages may keep memory.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
FREE_BYTES = 8 * 2**20  # that a thread keeps
BLOCK_BYTES = 2 * 2**20  # larger blocks are returned at once
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Set the bounds; returns whether it did: other C libraries have none, and the environment may name others."""
    if any(name in os.environ for name in VARIABLES):
        return False
    with suppress(OSError, AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        return bool(set_option(M_TRIM_THRESHOLD, FREE_BYTES) and set_option(M_MMAP_THRESHOLD, BLOCK_BYTES))
    return False
