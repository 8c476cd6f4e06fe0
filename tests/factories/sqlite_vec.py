"""Connections to SQLite with the extension sqlite-vec, also where Python was built without loading of extensions."""

import ctypes
import ctypes.util
import sqlite3
from pathlib import Path

import pytest


def connect_with_sqlite_vec(path: Path) -> sqlite3.Connection:
    """Open the file with sqlite-vec's functions; skips the test where that is impossible."""
    sqlite_vec = pytest.importorskip("sqlite_vec")
    if hasattr(sqlite3.Connection, "enable_load_extension"):
        connection = sqlite3.connect(path)
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        return connection
    library = ctypes.util.find_library("sqlite3")
    if library is None:
        pytest.skip("this Python neither loads SQLite's extensions nor shares SQLite's library")
    sqlite, extension = ctypes.CDLL(library), ctypes.CDLL(f"{sqlite_vec.loadable_path()}.so")
    sqlite.sqlite3_auto_extension(extension.sqlite3_vec_init)
    try:
        return sqlite3.connect(path)
    finally:
        sqlite.sqlite3_cancel_auto_extension(extension.sqlite3_vec_init)
