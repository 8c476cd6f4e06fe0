"""A full disk for SQLite: while a file exists, no transaction of this process can make the database larger."""

import sqlite3
from pathlib import Path
from typing import Any

UNLIMITED_PAGES = 1_073_741_823


def simulate_full_disk(switch_file: str) -> None:
    """Check for the file before each transaction."""

    class Connection(sqlite3.Connection):
        def cursor(self, *args: Any) -> Any:
            return super().cursor(*args or (Cursor,))

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, *args: Any) -> Any:
            if sql == "BEGIN IMMEDIATE":
                super().execute(f"PRAGMA max_page_count = {1 if Path(switch_file).exists() else UNLIMITED_PAGES}")
            return super().execute(sql, *args)

    real_connect = sqlite3.dbapi2.connect
    sqlite3.dbapi2.connect = lambda *args, **options: real_connect(*args, factory=Connection, **options)
