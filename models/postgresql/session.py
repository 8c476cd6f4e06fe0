"""PostgreSQL engines: session settings, timeouts and the connection limit of a process."""

import time
from contextlib import closing
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

# Linux would wait two hours for a server whose machine or network is gone. Keepalive probes start after 10 s of silence
# and repeat every 5 s. The connection ends after three unanswered probes, or after 30 s with unacknowledged data.
TCP_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}

SESSION_OPTIONS = "-c timezone=UTC -c idle_in_transaction_session_timeout={idle}"
MAX_NAME_BYTES = 63  # bytes; PostgreSQL truncates longer names, which may then collide
SET_IDLE_TIMEOUT = "SET LOCAL idle_in_transaction_session_timeout = {idle}"
AUTOCOMMIT = "AUTOCOMMIT"  # an isolation level of SQLAlchemy: each statement is its own transaction

# A ping before each transaction would be half of all statements of an idle process. If the server restarts within this
# time, one transaction fails as unreachable and its caller tries again, as it does when the server goes away later.
PING_AFTER_SECONDS = 15.0


def create_postgresql_engine(
    url: URL,
    *,
    connect_timeout_seconds: float,
    idle_seconds: float,
    max_connections: int | None,
    behind_pooler: bool,
    **options: Any,
) -> Engine:
    """Create an engine for PostgreSQL.

    connect_timeout_seconds: timeout of a new connection, at least 2.
    idle_seconds: time after which the server ends an idle transaction.
    max_connections: largest number of connections, None = SQLAlchemy's default. With a number, a connection is pinged
        only after PING_AFTER_SECONDS without use.
    behind_pooler: whether each transaction may get another session; the engine then keeps no session state, sends no
        startup options and prepares no statements.
    Raises ArgumentError for an invalid URL.
    """
    idle = round(idle_seconds * 1000)
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(connect_timeout_seconds)),  # libpq rounds 1 up to 2
        "application_name": "batchmill",
        "client_encoding": "utf8",  # another database encoding would return bytes
        **TCP_KEEPALIVE,
    }
    if behind_pooler:
        arguments["prepare_threshold"] = None
    else:
        # Options in the URL win; connect_args would override them.
        arguments["options"] = f"{url.query.get('options', '')} {SESSION_OPTIONS.format(idle=idle)}"
    if max_connections is not None:
        options |= {"pool_size": max_connections, "max_overflow": 0}
    engine = create_engine(url, pool_pre_ping=max_connections is None, connect_args=arguments, **options)
    if max_connections is not None:
        _ping_unused_connections(engine)
    if behind_pooler:

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if connection.get_execution_options().get("isolation_level") == AUTOCOMMIT:
                return
            # The connection's default cursor may be a server-side one, which accepts only queries.
            with closing(connection.connection.cursor()) as cursor:
                cursor.execute(SET_IDLE_TIMEOUT.format(idle=idle))

    return engine


def _ping_unused_connections(engine: Engine) -> None:
    @event.listens_for(engine, "checkin")
    def _record_use(_driver: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ping(driver: Any, record: Any, _proxy: Any) -> None:
        now = time.monotonic()
        if now - record.info.get("used_at", now) < PING_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(driver)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError("the connection is broken") from error  # the pool opens another one
