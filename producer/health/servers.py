"""HTTP servers as the table `servers` lists them; ages are by the database's clock."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import literal_column, select

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.privacy.terminal import format_duration
from models.processes import holders
from models.tables.service import Server
from producer.health.findings import OK, WARNING, Finding


@dataclass(frozen=True, slots=True)
class ServerView:
    """A server as it was at one moment.

    alive: whether it has heartbeats, and its process is not known to be gone
    """

    host: str
    pid: int
    address: str
    heartbeat_seconds_ago: float
    alive: bool


def list_servers(database: Database, lease_seconds: float) -> list[ServerView]:
    """Return every server that has not signed off, the oldest first."""
    now = literal_column(database.sql.now, UtcDateTime).label("now")
    query = select(*Server.__table__.c, now).order_by(Server.started_at, Server.id)
    with database.read() as connection:
        rows = connection.execute(query).all()
    views = []
    for row in rows:
        age_seconds = abs((row.now - row.heartbeat_at).total_seconds())  # the clock may have stepped back
        alive = age_seconds < lease_seconds and not holders.is_holder_gone(row.id)
        views.append(ServerView(row.host, row.pid, row.address, age_seconds, alive))
    return views


def check_servers(servers: Sequence[ServerView]) -> Iterator[Finding]:
    """Report the servers that run, and warn about those that ended without a word."""
    alive = [f"{server.address} on {server.host}" for server in servers if server.alive]
    if alive:
        yield Finding(OK, "servers", ", ".join(alive))
    for server in servers:
        if not server.alive:
            age = format_duration(server.heartbeat_seconds_ago)
            message = f"the last heartbeat of {server.address} (process {server.pid} on {server.host}) was {age} ago"
            yield Finding(WARNING, "servers", message, "see its log; the next server that starts removes it from here")
