"""Engines for SQLite files: Batchmill's own database in WAL mode, and files of others, opened as they are."""

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from models.documents import from_json, to_json
from models.errors import SettingsError
from models.privacy import private_files

SYNCHRONOUS = "FULL"  # an accepted batch survives a power cut too
MIN_BUSY_TIMEOUT_SECONDS = 15.0  # another writer may hold the lock for seconds, for a large submit or a VACUUM


def create_own_engine(url: URL, connect_timeout_seconds: float) -> Engine:
    """Build the engine of Batchmill's own database, whose file and folder are made if they do not exist.

    Raises SettingsError for a database in memory or in a folder that can't be written to.
    """
    if not url.database or url.database == ":memory:":
        raise SettingsError("database_url names an in-memory SQLite, which workers can't share; name a file")
    path = Path(url.database)
    folder = path.absolute().parent
    with private_files.explain_unwritable(folder):
        private_files.make_folder(folder)
    engine = _use_explicit_begin(
        create_engine(
            url,
            connect_args={"timeout": max(MIN_BUSY_TIMEOUT_SECONDS, connect_timeout_seconds)},
            json_deserializer=from_json,
            hide_parameters=True,
        )
    )

    @event.listens_for(engine, "do_connect")
    def _make(_dialect: Any, _record: Any, _arguments: Any, _options: Any) -> None:
        # SQLite would create the file with the umask's mode; its WAL and index files inherit the file's mode.
        if not path.exists():
            with suppress(OSError):  # SQLite reports the problem
                private_files.make_file(path)

    @event.listens_for(engine, "connect")
    def _prepare(driver: Any, _record: Any) -> None:
        cursor = driver.cursor()
        _use_wal(cursor, path, connect_timeout_seconds)
        cursor.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
        driver.create_function("lower_text", 1, _lower, deterministic=True)
        driver.create_function("lower_json", 1, _lower_json, deterministic=True)

    return engine


def create_foreign_engine(url: URL, connect_timeout_seconds: float) -> Engine:
    """Build the engine of a database that must exist, and whose settings stay unchanged."""
    timeout_seconds = max(MIN_BUSY_TIMEOUT_SECONDS, connect_timeout_seconds)
    address = f"file:{quote(str(Path(url.database or '').expanduser().absolute()))}?mode={url.query.get('mode', 'rw')}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=timeout_seconds, check_same_thread=False)

    return _use_explicit_begin(create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True))


def _use_explicit_begin(engine: Engine) -> Engine:
    @event.listens_for(engine, "connect")
    def _leave(driver: Any, _record: Any) -> None:
        driver.isolation_level = None  # we write BEGIN ourselves

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _lower(value: str | None) -> str | None:
    """Lower every letter; SQLite's `lower` knows A to Z alone."""
    return None if value is None else value.lower()


def _lower_json(value: str | None) -> str | None:
    r"""Lower a document, whose letters may be written as `\u00dc`."""
    if value is not None and "\\u" in value:
        with suppress(ValueError):
            value = to_json(from_json(value)).encode(errors="replace").decode()
    return _lower(value)


def _use_wal(cursor: Any, path: Path, timeout_seconds: float) -> None:
    # When several processes open a new file at once, SQLite refuses all but one without waiting.
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline or private_files.find_refusal(path):
                raise
            time.sleep(0.02)
