"""PostgreSQL's own: what a session is told when it connects, and how many a process may have."""

from contextlib import closing
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

# A server whose machine or network is gone says nothing at all, and Linux would wait two hours for it: after 10 s of
# silence it is asked every 5 s, and the third time without an answer, or 30 s with something unsent, ends the wait.
FALLEN_SILENT = {
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000,
}  # fmt: skip

OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout={idle}"
LONGEST_NAME = 63  # bytes; longer ones are cut, and may then be another's
SET_IDLE = "SET LOCAL idle_in_transaction_session_timeout = {idle}"


def engine(
    url: URL, *, connect_seconds: float, idle_seconds: float, connections: int | None, pooled: bool, **how: Any
) -> Engine:
    """An engine with at most so many connections; None leaves that to SQLAlchemy.

    `pooled` says that a pooler gives each transaction another session: nothing is prepared, asked for at the start or
    kept from one transaction to the next. Raises ArgumentError.
    """
    idle = round(idle_seconds * 1000)
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(connect_seconds)),  # libpq rounds 1 up to 2
        "application_name": "batchmill",
        "client_encoding": "utf8",  # else a database in another encoding would give us bytes
        **FALLEN_SILENT,
    }
    if pooled:
        arguments["prepare_threshold"] = None
    else:
        # What the URL itself says comes first; connect_args would hide it.
        arguments["options"] = f"{url.query.get('options', '')} {OPTIONS.format(idle=idle)}"
    if connections is not None:
        how |= {"pool_size": connections, "max_overflow": 0}
    made = create_engine(url, pool_pre_ping=True, connect_args=arguments, **how)
    if pooled:

        @event.listens_for(made, "begin")
        def _begin(connection: Connection) -> None:
            # By a cursor of its own: the connection's may be one on the server, which takes nothing but queries.
            with closing(connection.connection.cursor()) as cursor:
                cursor.execute(SET_IDLE.format(idle=idle))

    return made
