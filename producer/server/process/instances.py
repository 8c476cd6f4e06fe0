"""Instances: the row of each running server, and the rule that several of them need a file store that they share.

A file that one server has received must be found by the next request, which may reach another server. A URL in the
setting `file_store` says that the store is shared; a plain path, as the default is, means a folder of this machine.

The row of a server that was killed neither blocks its own restart, because its process is gone, nor a server elsewhere
for longer than `lease_seconds`, because it has no heartbeats.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, text

from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, Unreachable, UsageError
from models.processes import holders
from models.processes.background import HeartbeatThread
from models.processes.holders import HolderId, PidNamespace
from models.settings import Settings

log = structlog.get_logger(__name__)

WAIT_SECONDS = 0.5

# Two servers that start at the same moment must see each other; SQLite has one writer at a time anyway.
LOCK_SERVERS = "SELECT pg_advisory_xact_lock(hashtext('batchmill.servers'))"
SELECT_SERVERS = """
SELECT id, host, pid, address, uploads, CAST(heartbeat_at AS TEXT) AS heartbeat, heartbeat_at < {stale} AS is_stale
FROM servers ORDER BY started_at, id
"""
INSERT_SERVER = """
INSERT INTO servers (id, host, pid, address, uploads) VALUES (:id, :host, :pid, :address, :uploads)
"""
RENEW_SERVER = "UPDATE servers SET heartbeat_at = {now} WHERE id = :id"
DELETE_SERVER = "DELETE FROM servers WHERE id = :id"


class OtherServer(UsageError):
    """Another server uses this database with a file store that the two do not share."""

    code = "file_store_not_shared"


@dataclass(frozen=True, slots=True)
class ServerRow:
    """Another server, as its row has it."""

    id: str
    host: str
    pid: int
    address: str
    uploads: str
    heartbeat: str
    is_stale: bool

    @property
    def has_ended(self) -> bool:
        """Whether its process is certainly gone, or has had no heartbeat for too long."""
        return self.is_stale or holders.is_holder_gone(self.id)

    @property
    def is_alive(self) -> bool:
        """Whether its process certainly runs; False also where that can't be seen from here."""
        holder = HolderId.parse(self.id)
        is_near = holder is not None and holder.pid_namespace == PidNamespace.current()
        return is_near and not holders.is_holder_gone(self.id)


def is_shared(settings: Settings) -> bool:
    """Whether the settings say that several servers share the file store: a URL does, and a plain path does not."""
    return settings.file_store is not None and "://" in settings.file_store


class Instance:
    """The row of this server.

    uploads: the id of its file store
    on_refused: called from the heartbeat's thread if another server took its place meanwhile
    """

    def __init__(self, database: Database, settings: Settings, uploads: str, address: str) -> None:
        self.on_refused: Callable[[BatchmillError], object] = lambda _error: None
        self._database = database
        self._settings = settings
        self._id = holders.new_holder_id()
        self._row: dict[str, Any] = {
            "id": self._id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "address": address,
            "uploads": uploads,
        }

    def register(self) -> None:
        """Insert the row; raises OtherServer while another server runs with which it does not share files.

        A server that may have been killed is waited for until it has a heartbeat, or is too old.
        """
        first_seen: dict[str, str] = {}
        while (other := self._database.transact(self._insert)) is not None:
            if other.is_alive or first_seen.get(other.id, other.heartbeat) != other.heartbeat:
                raise OtherServer(_explain(other, is_shared=is_shared(self._settings)))
            if other.id not in first_seen:
                log.warning(
                    "server.waiting", address=other.address, host=other.host, seconds=self._settings.lease_seconds
                )
                first_seen[other.id] = other.heartbeat
            time.sleep(WAIT_SECONDS)

    def heartbeat_thread(self) -> HeartbeatThread:
        """A context in which the row has heartbeats."""
        return HeartbeatThread(self._beat, self._settings.heartbeat_seconds)

    def unregister(self) -> None:
        """Delete the row; if the database does not answer, it becomes stale."""
        try:
            with self._database.statement(read_only=False) as connection:
                connection.execute(text(DELETE_SERVER), {"id": self._id})
        except (Unreachable, DatabaseRefused) as error:
            log.warning("server.unregister_failed", error=str(error))

    def _beat(self) -> bool:
        """Renew the row, or insert it again if others deleted it as stale; returns whether this server may go on."""
        with self._database.statement(read_only=False) as connection:
            statement = text(RENEW_SERVER.format(now=self._database.sql.now))
            if connection.execute(statement, {"id": self._id}).rowcount == 1:
                return True
        other = self._database.transact(self._insert)
        if other is None:
            return True
        self.on_refused(OtherServer(_explain(other, is_shared=is_shared(self._settings))))
        return False

    def _insert(self, connection: Connection) -> ServerRow | None:
        """Insert the row and delete those of ended servers; returns the server that forbids it."""
        if connection.dialect.name == "postgresql":
            connection.execute(text(LOCK_SERVERS))
        stale = self._database.sql.seconds_from_now(-self._settings.lease_seconds)
        rows = [ServerRow(*row) for row in connection.execute(text(SELECT_SERVERS.format(stale=stale)))]
        for row in rows:
            if row.has_ended:
                connection.execute(text(DELETE_SERVER), {"id": row.id})
        for row in rows:
            is_same_store = is_shared(self._settings) and row.uploads == self._row["uploads"]
            if not row.has_ended and not is_same_store:
                return row
        connection.execute(text(INSERT_SERVER), self._row)
        return None


def _explain(other: ServerRow, *, is_shared: bool) -> str:
    server = f"another server ({other.address}, pid {other.pid} on {other.host}) uses this database"
    if is_shared:
        return f"{server} with another file store; set file_store to the same URL for each server"
    return (
        f"{server}, and each would miss the files that the other received; if `batchmill up` started it, use "
        "`up --no-serve`; to run several, set file_store to a store that they share, such as file:///mnt/files"
    )
