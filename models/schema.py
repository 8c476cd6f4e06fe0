"""Which version the tables are of, and how they get to ours."""

import fcntl
import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from models.db import IDLE_SECONDS, UNBOUNDED, Database, Pool
from models.errors import BatchmillError, DatabaseRefused, RightMissing, SchemaMismatch
from models.postgresql.grants import grant, quoted
from models.privacy import private_files
from models.settings import Settings

ELSEWHERE = """
SELECT n.nspname AS schema, current_user AS role, has_schema_privilege(n.oid, 'USAGE') AS usable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'alembic_version' AND EXISTS (
    SELECT 1 FROM pg_class j WHERE j.relnamespace = c.relnamespace AND j.relname = 'job_results')
ORDER BY n.nspname LIMIT 1
"""

HEAD = "0011"  # the newest migration; a test holds it against the scripts


def scripts() -> Path:
    """The folder of the migrations: beside the packages in a checkout, inside `models` when installed."""
    here = Path(__file__).resolve().parent
    return next(path for path in (here / "migrations", here.parent / "migrations") if path.is_dir())


def version(database: Database) -> str | None:
    """The version that the database's tables are of; None for an empty database."""
    with database.read() as connection:
        if connection.dialect.name == "postgresql":
            _check_encoding(connection)
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found


def check(database: Database) -> None:
    """Raise SchemaMismatch, naming the command that mends it, unless the tables are of our version."""
    found = version(database)
    if found == HEAD:
        return
    if found is None:
        _refuse_elsewhere(database)
        raise SchemaMismatch("the database has no Batchmill tables yet; run: batchmill db upgrade")
    if found < HEAD:
        raise SchemaMismatch(f"the tables are of version {found}, this code needs {HEAD}; run: batchmill db upgrade")
    _refuse_newer(found)


def explained(database: Database, error: DatabaseRefused) -> BatchmillError:
    """The cause of a refusal: tables that somebody upgraded beneath this process, else the refusal itself."""
    try:
        check(database)
    except SchemaMismatch as mismatch:
        return mismatch
    except BatchmillError:
        pass
    return error


def upgrade(database_url: str) -> None:
    """Bring the tables to our version; several processes may try at once. Raises SchemaMismatch for newer tables."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    database = Database(database_url)
    try:
        _refuse_newer(version(database))
        if database.engine.dialect.name == "sqlite":
            # SQLite's own lock is released between migrations; a file lock holds for all of them.
            with (
                os.fdopen(private_files.open_file(Path(f"{database.engine.url.database}.upgrade")), "w") as lock,
                database.session() as connection,
            ):
                fcntl.flock(lock, fcntl.LOCK_EX)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            return
        with database.write() as connection:
            _lock_postgresql(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        database.close()


def ready(
    database_url: str, *, embedded: bool, connect_seconds: float, idle_seconds: float = IDLE_SECONDS,
    pool: Pool = UNBOUNDED,
) -> Database:  # fmt: skip
    """A database whose tables are of our version: the embedded one is upgraded, a server's only checked."""
    database = Database(database_url, connect_seconds=connect_seconds, idle_seconds=idle_seconds, pool=pool)
    try:
        if embedded and version(database) != HEAD:
            upgrade(database_url)
        check(database)
    except BaseException:
        database.close()
        raise
    return database


def opened(settings: Settings, connections: int | None = None) -> Database:
    """The database that the settings name, ready to be used; with so many connections at most, if it is PostgreSQL."""
    return ready(
        settings.database,
        embedded=settings.database_is_embedded,
        connect_seconds=settings.connect_seconds,
        idle_seconds=settings.lease_seconds,
        pool=Pool(connections, settings.database_pooler),
    )


def _check_encoding(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    encoding = driver.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", None):
        raise DatabaseRefused(
            f"the database is encoded in {encoding}, which can't hold every text; make one with: "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )


def _refuse_elsewhere(database: Database) -> None:
    """Raise a refusal where there are tables of ours in a schema that this role does not look into."""
    if database.engine.dialect.name != "postgresql":
        return
    with database.read() as connection:
        row = connection.execute(text(ELSEWHERE)).one_or_none()
    if row is None:
        return
    schema, role = quoted(row.schema), quoted(row.role)
    if not row.usable:
        raise RightMissing(
            f"role {role} lacks USAGE on schema {schema}, where the tables are; its owner gives it with: "
            f"{grant('USAGE', 'SCHEMA', row.schema, row.role)}"
        )
    raise DatabaseRefused(
        f"the tables are in schema {schema}, which is not in the search_path of role {role}; put it there: "
        f"ALTER ROLE {role} SET search_path = {schema}"
    )


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > HEAD:
        raise SchemaMismatch(
            f"the tables are of version {found}, newer than this code's {HEAD}; install that Batchmill"
        )


def _lock_postgresql(connection: Connection) -> None:
    # DDL is transactional here, so one advisory lock for the transaction makes the others wait and then find it done.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('batchmill.schema'))"))
