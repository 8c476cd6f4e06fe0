"""PostgreSQL's own: what a session is told when it connects, and how many a process may have."""

from contextlib import closing
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

# A server whose machine or network is gone says nothing at all, and Linux would wait two hours for it: after 10 s of
# silence it is asked every 5 s, and the third time without an answer, or 30 s with something unsent, ends the wait.
TCP_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}

SESSION_OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout={idle}"
MAX_NAME_BYTES = 63  # bytes; longer ones are cut, and may then be another's
SET_IDLE_TIMEOUT = "SET LOCAL idle_in_transaction_session_timeout = {idle}"


def create_postgresql_engine(
    url: URL,
    *,
    connect_seconds: float,
    idle_seconds: float,
    max_connections: int | None,
    behind_pooler: bool,
    **options: Any,
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
        **TCP_KEEPALIVE,
    }
    if behind_pooler:
        arguments["prepare_threshold"] = None
    else:
        # What the URL itself says comes first; connect_args would hide it.
        arguments["options"] = f"{url.query.get('options', '')} {SESSION_OPTIONS.format(idle=idle)}"
    if max_connections is not None:
        options |= {"pool_size": max_connections, "max_overflow": 0}
    made = create_engine(url, pool_pre_ping=True, connect_args=arguments, **options)
    if behind_pooler:

        @event.listens_for(made, "begin")
        def _begin(connection: Connection) -> None:
            # By a cursor of its own: the connection's may be one on the server, which takes nothing but queries.
            with closing(connection.connection.cursor()) as cursor:
                cursor.execute(SET_IDLE_TIMEOUT.format(idle=idle))

    return made
