"""Tokens by which a process holds what it works at: where it runs, so that others there see whether it still does."""

import os
import secrets
import socket
from pathlib import Path


def new() -> str:
    """A token of this process, unlike any other."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


def has_died(token: str) -> bool:
    """Whether it is known that the process behind a token is gone: it ran on this machine, and no longer does."""
    host, _, pid = token.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError, OverflowError):
        return False
    return _is_defunct(int(pid))


def _is_defunct(pid: int) -> bool:
    """Whether it has ended and nobody has asked how, which in a container may stay so for good; Linux alone says it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return status.rpartition(b")")[2].split()[:1] == [b"Z"]
