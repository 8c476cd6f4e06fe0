"""Holder ids name the process that holds a batch or a run, so that others on its machine see whether it still exists.

A process lease is a row in SQL that names its holder, and that the holder renews by heartbeats.

A process id means something only within its PID namespace, and only until it is used again. A holder id therefore names
the host, the boot of its kernel, the namespace, the process id and the time at which the process started. Processes
elsewhere can't be checked.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import TextClause

from models.db import Database
from models.processes.background import HeartbeatThread

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
START_TIME_FIELD = 19  # in /proc/PID/stat after the process' name: its start, in ticks since the kernel booted


@dataclass(frozen=True, slots=True)
class ProcessLease:
    """A lease that this process holds.

    renewal: statement that renews the lease, and changes no row once another process has it
    params: its parameters
    interval_seconds: time between two heartbeats
    """

    database: Database
    renewal: TextClause
    params: Mapping[str, Any]
    interval_seconds: float

    def renew(self) -> bool:
        """Renew the lease; returns whether this process still holds it. Raises Unreachable."""
        with self.database.write() as connection:
            return connection.execute(self.renewal, self.params).rowcount == 1

    def heartbeat_thread(self) -> HeartbeatThread:
        """A context in which the lease is renewed, until it is lost."""
        return HeartbeatThread(self.renew, self.interval_seconds)


@dataclass(frozen=True, slots=True)
class PidNamespace:
    """The scope in which a process id is unique; without /proc there are no namespaces, and the host is enough."""

    host: str
    boot_id: str
    namespace: str

    @classmethod
    def current(cls) -> Self:
        """The namespace of this process."""
        namespace = _link_name(Path("/proc/self/ns/pid")).strip("pid:[]")
        return cls(socket.gethostname(), _read_text(BOOT_ID_FILE).strip(), namespace)


@dataclass(frozen=True, slots=True)
class HolderId:
    """A process, with a nonce that makes each holder id unique."""

    pid_namespace: PidNamespace
    pid: int
    start_time: str  # empty if unknown
    nonce: str

    def __str__(self) -> str:
        place = self.pid_namespace
        return ":".join((place.host, place.boot_id, place.namespace, str(self.pid), self.start_time, self.nonce))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The holder id that `str` wrote; None for any other text."""
        parts = text.rsplit(":", 5)
        if len(parts) != 6 or not parts[3].isdecimal():
            return None
        host, boot_id, namespace, pid, start_time, nonce = parts
        return cls(PidNamespace(host, boot_id, namespace), int(pid), start_time, nonce)


def new_holder_id() -> str:
    """A new holder id of this process."""
    return str(HolderId(PidNamespace.current(), os.getpid(), _start_time("self"), secrets.token_hex(8)))


def is_holder_gone(holder_id: str) -> bool:
    """Whether the holder's process ran in this PID namespace and has certainly exited."""
    holder = HolderId.parse(holder_id)
    if holder is None or holder.pid_namespace != PidNamespace.current():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _is_own_proc() and _is_zombie_or_replaced(holder)


def _is_zombie_or_replaced(holder: HolderId) -> bool:
    """Whether the process is a zombie, which in a container may last for ever, or its id was used again."""
    pid = str(holder.pid)
    if _stat_fields(pid)[:1] == ["Z"]:
        return True
    start_time = _start_time(pid)
    return bool(start_time and holder.start_time and start_time != holder.start_time)


def _start_time(pid: str) -> str:
    fields = _stat_fields(pid)
    return fields[START_TIME_FIELD] if len(fields) > START_TIME_FIELD else ""


def _stat_fields(pid: str) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold any character; empty if there is no such process."""
    return _read_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()


def _is_own_proc() -> bool:
    """Whether /proc shows our PID namespace: a container may see its host's."""
    return _link_name(Path("/proc/self")) == str(os.getpid())


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _link_name(path: Path) -> str:
    try:
        return path.readlink().name
    except OSError:
        return ""
