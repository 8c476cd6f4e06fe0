"""A limit on the memory of a process that runs untrusted input."""

import resource
from contextlib import suppress
from pathlib import Path


def limit_address_space(extra_bytes: int) -> None:
    """Let this process allocate at most `extra_bytes` more, on Linux, and write no core dump.

    For processes that run untrusted input: beyond the limit they raise MemoryError, or end.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + extra_bytes, used + extra_bytes))
