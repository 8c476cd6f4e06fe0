"""Tokens by which a process holds what it works at: where it runs, so that others there see whether it still does."""

import os
import secrets
import socket


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
    return False
