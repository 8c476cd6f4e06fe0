"""Tokens by which a process holds what it works at: where it runs, so that others there see whether it still does.

A process id means something only within its PID namespace, and only until it is used again. So a token names the host,
the boot of its kernel, the namespace, the process id and the moment at which the process began; elsewhere nothing is
known of it.
"""

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
START_FIELD = 19  # of what follows a process' name in /proc/PID/stat: its start, in ticks since the kernel booted


@dataclass(frozen=True, slots=True)
class Place:
    """Where process ids have one meaning; without /proc there are no namespaces, and the host is enough."""

    host: str
    boot: str
    namespace: str

    @classmethod
    def here(cls) -> Self:
        """Where this process runs."""
        return cls(socket.gethostname(), _boot_id(), _namespace())


@dataclass(frozen=True, slots=True)
class Token:
    """A process, and a number of its own for each token."""

    place: Place
    pid: int
    started: str  # empty where it is not known
    nonce: str

    def __str__(self) -> str:
        place = self.place
        return ":".join((place.host, place.boot, place.namespace, str(self.pid), self.started, self.nonce))

    @classmethod
    def parsed(cls, token: str) -> Self | None:
        """A token as it was written; None for what is none."""
        parts = token.rsplit(":", 5)
        if len(parts) != 6 or not parts[3].isdecimal():
            return None
        host, boot, namespace, pid, started, nonce = parts
        return cls(Place(host, boot, namespace), int(pid), started, nonce)


def new() -> str:
    """A token of this process, unlike any other."""
    return str(Token(Place.here(), os.getpid(), _started("self"), secrets.token_hex(8)))


def has_died(token: str) -> bool:
    """Whether it is known that the process behind a token is gone: it ran here, and no longer does."""
    held = Token.parsed(token)
    if held is None or held.place != Place.here():
        return False
    try:
        os.kill(held.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _shows_our_processes() and _is_gone(held)


def _is_gone(held: Token) -> bool:
    """Whether it ended and nobody asked how, which in a container may stay so for good, or its id is another's now."""
    fields = _status(str(held.pid))
    if fields[:1] == ["Z"]:
        return True
    started = _started(str(held.pid))
    return bool(started and held.started and started != held.started)


def _started(pid: str) -> str:
    fields = _status(pid)
    return fields[START_FIELD] if len(fields) > START_FIELD else ""


def _status(pid: str) -> list[str]:
    """The fields of a process behind its name, which may hold anything; none where there is no such process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return status.rpartition(")")[2].split()


def _shows_our_processes() -> bool:
    """Whether /proc is of our PID namespace: a container may see its host's."""
    try:
        return Path("/proc/self").readlink().name == str(os.getpid())
    except OSError:
        return False


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return ""
