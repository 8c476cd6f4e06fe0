"""The shop's tickets, with the answers that solved the old ones, and the search for similar tickets."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

import numpy
from sqlalchemy import Connection, NullPool, create_engine, text

THINGS = (
    "kettle",
    "printer",
    "laptop",
    "phone",
    "router",
    "vacuum cleaner",
    "coffee machine",
    "camera",
    "lamp",
    "bike",
)
# What customers write of a thing, and the answer that solved it.
PROBLEMS = (
    ("The {} does not turn on.", "Hold the button for ten seconds."),
    ("My {} makes a loud noise.", "Send it in for repair."),
    ("The {} arrived with a scratch.", "Keep it and get 10 % back."),
    ("The box of the {} was empty.", "A new one is on its way."),
    ("I want to return my {}.", "Print the label in your account."),
    ("The battery of the {} is empty after an hour.", "Order a new battery."),
)
ORDERS = (
    ("I want my money back.", "It is back on your card in three days."),
    ("Where is my parcel?", "Follow the link in your mail."),
    ("My card was charged twice.", "The second charge was reversed."),
    ("How do I change my address?", "In your account, under Addresses."),
)
NEW_TICKETS = (
    "My espresso machine is so loud.",
    "Please refund my order.",
    "The notebook stays black, it won't start.",
    "My package has not come yet.",
    "The smartphone has a scratch on its back.",
)
CREATE_TICKETS = """
CREATE TABLE tickets (id INTEGER PRIMARY KEY, body TEXT, answer TEXT, updated_at {timestamp} NOT NULL)
"""
TIMESTAMP = {"postgresql": "TIMESTAMPTZ", "sqlite": "TEXT"}

# pgvector compares in SQL. With an index (USING hnsw (embedding vector_cosine_ops)) it does so among millions.
SELECT_NEAREST = """
SELECT n.id, n.body, o.id, o.body, o.answer, 1 - (v.embedding <=> near.embedding) AS similarity
FROM tickets n JOIN ticket_vectors v ON v.id = n.id
CROSS JOIN LATERAL (
    SELECT id, embedding FROM ticket_vectors WHERE id < :first_new AND embedding IS NOT NULL
    ORDER BY embedding <=> v.embedding LIMIT :count
) AS near JOIN tickets o ON o.id = near.id
WHERE n.id >= :first_new AND v.embedding IS NOT NULL ORDER BY n.id, similarity DESC
"""
# A ticket whose job failed has a row without a vector.
SELECT_VECTORS = """
SELECT t.id, t.body, t.answer, v.embedding FROM tickets t JOIN ticket_vectors v ON v.id = t.id
WHERE v.embedding IS NOT NULL ORDER BY t.id
"""


class Match(NamedTuple):
    """A new ticket with an old one that resembles it; `similarity` is the cosine of their vectors."""

    new_id: int
    new_body: str
    old_id: int
    old_body: str
    answer: str
    similarity: float


class TicketDatabase:
    """The database of tickets, SQLite or PostgreSQL; `now` is the time of the last change."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
        self.dialect = self._engine.dialect.name
        self.now = datetime.now(UTC)
        with self._engine.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            connection.execute(text(CREATE_TICKETS.format(timestamp=TIMESTAMP[self.dialect])))

    def insert_tickets(self, first_id: int, tickets: Sequence[tuple[str, str | None]]) -> None:
        """Insert tickets with these texts and answers."""
        statement = text("INSERT INTO tickets (id, body, answer, updated_at) VALUES (:id, :body, :answer, :now)")
        with self._engine.begin() as connection:
            for number, (body, answer) in enumerate(tickets, start=first_id):
                values = {"id": number, "body": body, "answer": answer, "now": self._next_timestamp()}
                connection.execute(statement, values)

    def find_nearest(self, first_new: int, count: int) -> list[Match]:
        """Return the nearest old tickets for each new one, best first; new ones have ids from `first_new` on."""
        with self._engine.begin() as connection:
            if self.dialect == "postgresql":
                rows = connection.execute(text(SELECT_NEAREST), {"first_new": first_new, "count": count})
                return [Match(*row) for row in rows]
            return list(_find_nearest_by_numpy(connection, first_new, count))

    def query(self, statement: str) -> list[Any]:
        """Return the rows of a query."""
        with self._engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def _next_timestamp(self) -> datetime | str:
        self.now += timedelta(minutes=1)
        return self.now if self.dialect == "postgresql" else f"{self.now.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _find_nearest_by_numpy(connection: Connection, first_new: int, count: int) -> Iterator[Match]:
    """Compare in memory. A blob of SQLite is a vector of float32, which the extension sqlite-vec reads too."""
    rows = connection.execute(text(SELECT_VECTORS)).all()
    matrix = numpy.array([numpy.frombuffer(row.embedding, "<f4") for row in rows])
    old = [index for index, row in enumerate(rows) if row.id < first_new]
    for index in range(len(old), len(rows)):
        similarities = matrix[old] @ matrix[index]  # cosines, because the pipeline normalizes
        for place in numpy.argsort(-similarities, kind="stable")[:count]:
            new, near = rows[index], rows[old[place]]
            yield Match(new.id, new.body, near.id, near.body, near.answer, float(similarities[place]))


def old_tickets() -> list[tuple[str, str | None]]:
    """Return the texts and answers of the tickets that were solved."""
    faults = [(body.format(thing), answer) for thing, (body, answer) in product(THINGS, PROBLEMS)]
    return [*faults, *ORDERS]
