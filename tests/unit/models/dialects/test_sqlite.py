"""Batchmill's own SQLite files are written in the way that survives a power cut."""

import importlib.util
from pathlib import Path

from sqlalchemy import make_url, text

from models.dialects import sqlite


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """In a copy of the module, because the tests' own one does not wait."""
    spec = importlib.util.spec_from_file_location("fresh_sqlite", sqlite.__file__)
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    engine = fresh.create_own_engine(make_url(f"sqlite:///{tmp_path / 'batchmill.db'}"), 60.0)

    with engine.connect() as connection:
        synchronous = connection.scalar(text("PRAGMA synchronous"))
        journal = connection.scalar(text("PRAGMA journal_mode"))
    engine.dispose()

    assert (synchronous, journal) == (2, "wal")  # FULL
