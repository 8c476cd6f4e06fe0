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

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
START_TIME_FIELD = 19  # of what follows a process' name in /proc/PID/stat: its start, in ticks since the kernel booted


@dataclass(frozen=True, slots=True)
class PidNamespace:
    """Where process ids have one meaning; without /proc there are no namespaces, and the host is enough."""

    host: str
    boot_id: str
    namespace: str

    @classmethod
    def current(cls) -> Self:
        """Where this process runs."""
        return cls(socket.gethostname(), _boot_id(), _pid_namespace_id())


@dataclass(frozen=True, slots=True)
class HolderId:
    """A process, and a number of its own for each token."""

    pid_namespace: PidNamespace
    pid: int
    start_time: str  # empty where it is not known
    nonce: str

    def __str__(self) -> str:
        place = self.pid_namespace
        return ":".join((place.host, place.boot_id, place.namespace, str(self.pid), self.start_time, self.nonce))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A token as it was written; None for what is none."""
        parts = text.rsplit(":", 5)
        if len(parts) != 6 or not parts[3].isdecimal():
            return None
        host, boot, namespace, pid, started, nonce = parts
        return cls(PidNamespace(host, boot, namespace), int(pid), started, nonce)


def new_holder_id() -> str:
    """A token of this process, unlike any other."""
    return str(HolderId(PidNamespace.current(), os.getpid(), _start_time("self"), secrets.token_hex(8)))


def is_holder_gone(holder_id: str) -> bool:
    """Whether it is known that the process behind a token is gone: it ran here, and no longer does."""
    held = HolderId.parse(holder_id)
    if held is None or held.pid_namespace != PidNamespace.current():
        return False
    try:
        os.kill(held.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _is_own_proc() and _is_zombie_or_replaced(held)


def _is_zombie_or_replaced(holder: HolderId) -> bool:
    """Whether it ended and nobody asked how, which in a container may stay so for good, or its id is another's now."""
    fields = _stat_fields(str(holder.pid))
    if fields[:1] == ["Z"]:
        return True
    started = _start_time(str(holder.pid))
    return bool(started and holder.start_time and started != holder.start_time)


def _start_time(pid: str) -> str:
    fields = _stat_fields(pid)
    return fields[START_TIME_FIELD] if len(fields) > START_TIME_FIELD else ""


def _stat_fields(pid: str) -> list[str]:
    """The fields of a process behind its name, which may hold anything; none where there is no such process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return status.rpartition(")")[2].split()


def _is_own_proc() -> bool:
    """Whether /proc is of our PID namespace: a container may see its host's."""
    try:
        return Path("/proc/self").readlink().name == str(os.getpid())
    except OSError:
        return False


def _boot_id() -> str:
    try:
        return BOOT_ID_FILE.read_text("ascii").strip()
    except OSError:
        return ""


def _pid_namespace_id() -> str:
    try:
        return Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        return ""
