"""Sightings: which ids were seen and where, on disk, so that memory does not grow with them."""

import json
import sqlite3
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class Sightings:
    """Ids with the place where each was seen first. Use as a context; what it keeps is gone with it."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")  # a temporary file of SQLite's own, in memory while it is small
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def note(self, places: Mapping[str, int]) -> dict[str, int]:
        """Take ids in; returns those that were seen before, with where."""
        query = "SELECT id, place FROM seen WHERE id IN (SELECT value FROM json_each(?))"
        known = dict(self._file.execute(query, [json.dumps(list(places))]))
        self._file.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", places.items())
        return known
