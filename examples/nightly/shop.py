"""The shop's tickets in SQLite, with changes by customers and clerks."""

import json
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

SAMPLES_FOLDER = Path(__file__).resolve().parents[2] / "models" / "samples"
CREATE_TICKETS = """
CREATE TABLE tickets (
    id INTEGER PRIMARY KEY, channel TEXT NOT NULL, body TEXT, status TEXT NOT NULL DEFAULT 'open',
    updated_at TEXT NOT NULL
)
"""
CHANNELS = ("mail", "chat", "phone")
TICKET_INTERVAL = timedelta(minutes=3)  # between two changes


class TicketDatabase:
    """The database of tickets; `now` is the time of the last change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._texts = _ticket_texts()
        self.now = datetime.now(UTC)
        self.execute(CREATE_TICKETS)

    def insert_tickets(self, count: int) -> None:
        """Insert new tickets."""
        for channel, text in zip(cycle(CHANNELS), [next(self._texts) for _ in range(count)], strict=False):
            self.insert_ticket(channel, text)

    def insert_ticket(self, channel: str, body: str | None) -> None:
        """Insert a new ticket; `body` is None for a form whose text was lost."""
        self.execute(
            "INSERT INTO tickets (channel, body, updated_at) VALUES (?, ?, ?)", channel, body, self._next_timestamp()
        )

    def edit_ticket(self, ticket_id: int, addition: str) -> None:
        """Add to the text, so that the ticket needs a new label."""
        self.execute(
            "UPDATE tickets SET body = body || ' ' || ?, updated_at = ? WHERE id = ?",
            addition,
            self._next_timestamp(),
            ticket_id,
        )

    def close_ticket(self, ticket_id: int) -> None:
        """Close a ticket; the row changes, but its text does not."""
        self.execute(
            "UPDATE tickets SET status = 'closed', updated_at = ? WHERE id = ?", self._next_timestamp(), ticket_id
        )

    def execute(self, statement: str, *values: Any) -> None:
        """Run a statement in a transaction."""
        with closing(sqlite3.connect(self._file)) as connection, connection:
            connection.execute(statement, values)

    def query(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with closing(sqlite3.connect(self._file)) as connection:
            return connection.execute(query).fetchall()

    def _next_timestamp(self) -> str:
        self.now += TICKET_INTERVAL
        return f"{self.now.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def write_bad_model(folder: Path) -> None:
    """Write a copy of the bundled model whose changed bias makes it call nearly every text NEGATIVE."""
    shutil.copytree(SAMPLES_FOLDER / "sentiment-analysis", folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    (size,) = struct.unpack("<Q", content[:8])  # the safetensors format: header size, JSON header, numbers
    begin, end = json.loads(content[8 : 8 + size])["classifier.bias"]["data_offsets"]
    content[8 + size + begin : 8 + size + end] = struct.pack("<2f", 1.75, -1.75)
    file.write_bytes(content)


def _ticket_texts() -> Iterator[str]:
    lines = (SAMPLES_FOLDER / "reviews.jsonl").read_text("utf-8").splitlines()
    return cycle([json.loads(line)["text"] for line in lines])
