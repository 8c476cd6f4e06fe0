"""The version of the database's tables: checks, upgrades and opening a database."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from models.db import IDLE_IN_TRANSACTION_SECONDS, UNBOUNDED_POOL, Database, PoolOptions
from models.errors import BatchmillError, DatabaseRefused, InsufficientPrivilege, SchemaMismatch
from models.postgresql.grants import format_grant, quote_identifier
from models.privacy import private_files
from models.settings import Settings

FIND_TABLES_IN_OTHER_SCHEMA = """
SELECT n.nspname AS schema, current_user AS role, has_schema_privilege(n.oid, 'USAGE') AS usable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'alembic_version' AND EXISTS (
    SELECT 1 FROM pg_class j WHERE j.relnamespace = c.relnamespace AND j.relname = 'job_results')
ORDER BY n.nspname LIMIT 1
"""

HEAD = "0012"  # the newest migration; a test compares it with the scripts


def migrations_folder() -> Path:
    """The folder of the migrations: beside the packages in a checkout, inside `models` if installed."""
    here = Path(__file__).resolve().parent
    return next(path for path in (here / "migrations", here.parent / "migrations") if path.is_dir())


def current_version(database: Database) -> str | None:
    """The version of the database's tables; None for an empty database."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            _check_encoding(connection)
        return _read_version(connection)


def check_version(database: Database) -> None:
    """Raise SchemaMismatch, with the command that fixes it, unless the tables have this code's version."""
    version = current_version(database)
    if version == HEAD:
        return
    if version is None:
        _reject_other_schema(database)
        raise SchemaMismatch("the database has no Batchmill tables yet; run: batchmill db upgrade")
    if version < HEAD:
        raise SchemaMismatch(f"the tables are of version {version}, this code needs {HEAD}; run: batchmill db upgrade")
    _reject_newer(version)


def explain_refusal(database: Database, error: DatabaseRefused) -> BatchmillError:
    """Return SchemaMismatch if the tables were upgraded while this process ran, else the refusal itself."""
    try:
        check_version(database)
    except SchemaMismatch as mismatch:
        return mismatch
    except BatchmillError:
        pass
    return error


def upgrade(database_url: str) -> str | None:
    """Upgrade the tables to this code's version; several processes may do so at once.

    Returns the version before, None = there were no tables. Raises SchemaMismatch if the tables are newer.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    database = Database(database_url)
    try:
        _reject_newer(current_version(database))
        with _lock_schema(database) as connection:
            version_before = _read_version(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return version_before
    finally:
        database.close()


def open_database_url(
    database_url: str,
    *,
    is_embedded: bool,
    connect_timeout_seconds: float,
    idle_seconds: float = IDLE_IN_TRANSACTION_SECONDS,
    pool: PoolOptions = UNBOUNDED_POOL,
) -> Database:
    """Open a database after checking the version of its tables; an embedded one is upgraded if needed.

    is_embedded: whether the database is the SQLite file under home
    connect_timeout_seconds: how long connecting may take
    idle_seconds: how long a transaction may be idle on PostgreSQL
    pool: the limits on connections to PostgreSQL
    """
    database = Database(
        database_url, connect_timeout_seconds=connect_timeout_seconds, idle_seconds=idle_seconds, pool=pool
    )
    try:
        if is_embedded and current_version(database) != HEAD:
            upgrade(database_url)
        check_version(database)
    except BaseException:
        database.close()
        raise
    return database


def open_database(settings: Settings, max_connections: int | None = None) -> Database:
    """Open the database that the settings name.

    max_connections: most connections to PostgreSQL, None = one per thread that needs one
    """
    return open_database_url(
        settings.resolved_database_url,
        is_embedded=settings.database_is_embedded,
        connect_timeout_seconds=settings.connect_timeout_seconds,
        idle_seconds=settings.lease_seconds,
        pool=PoolOptions(max_connections, settings.database_behind_pooler),
    )


def _check_encoding(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    encoding = driver.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", None):
        raise DatabaseRefused(
            f"the database is encoded in {encoding}, which can't hold every text; make one with: "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )


def _reject_other_schema(database: Database) -> None:
    """Raise DatabaseRefused if our tables are in a schema outside the search path of this role."""
    if database.engine.dialect.name != "postgresql":
        return
    with database.read() as connection:
        row = connection.execute(text(FIND_TABLES_IN_OTHER_SCHEMA)).one_or_none()
    if row is None:
        return
    schema, role = quote_identifier(row.schema), quote_identifier(row.role)
    if not row.usable:
        raise InsufficientPrivilege(
            f"role {role} lacks USAGE on schema {schema}, where the tables are; its owner gives it with: "
            f"{format_grant('USAGE', 'SCHEMA', row.schema, row.role)}"
        )
    raise DatabaseRefused(
        f"the tables are in schema {schema}, which is not in the search_path of role {role}; put it there: "
        f"ALTER ROLE {role} SET search_path = {schema}"
    )


def _reject_newer(tables_version: str | None) -> None:
    if tables_version is not None and tables_version > HEAD:
        raise SchemaMismatch(
            f"the tables are of version {tables_version}, newer than this code's {HEAD}; install that Batchmill"
        )


def _read_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


@contextmanager
def _lock_schema(database: Database) -> Iterator[Connection]:
    """Let one process upgrade the tables at a time; the others wait and find them upgraded."""
    if database.engine.dialect.name == "postgresql":
        with database.write() as connection:  # DDL is transactional: this lock ends with the transaction
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('batchmill.schema'))"))
            yield connection
        return
    # SQLite's own lock is released between migrations; a file lock holds for all of them.
    path = Path(f"{database.engine.url.database}.upgrade")
    with private_files.explain_unwritable(path):
        descriptor = private_files.open_file(path)
    with os.fdopen(descriptor, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with database.session() as connection:
            yield connection
            connection.commit()
