"""The queries of docs/how-to/guards.md run as they stand, on the database that they are for."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from models.db import Database
from models.tables.results import Result
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.guard_rows import insert_guards, verdict

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "guards.md").read_text("utf-8")
POSTGRESQL, SQLITE, COUNTS, THRESHOLD = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def batch_id(database: Database) -> str:
    """A batch with the verdicts of two guards on two of its three results."""
    batch_id = insert_batch(database, 3)
    fake_worker.write_results(database, batch_id, [(index, {"label": "A"}) for index in range(3)])
    insert_guards(
        database,
        batch_id,
        {"guard": "injection", "stage": "input", "action": "flag", "passed": 1, "flagged": 1, "device_seconds": 0.5},
    )
    with database.write() as connection:
        for position, action, score in ((0, "pass", 0.25), (1, "flag", 0.75)):
            found = [verdict("injection", action, score=score, label="INJECTION"), verdict("pii")]
            connection.execute(
                update(Result).where(Result.batch_id == batch_id, Result.position == position).values(guards=found)
            )
    return batch_id


def rows(database: Database, query: str, batch_id: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        found = connection.execute(text(re.sub(r"batch_id = '\w+'", f"batch_id = '{batch_id}'", query).rstrip(";\n")))
        return [tuple(float(value) if isinstance(value, Decimal) else value for value in row) for row in found]


def test_verdicts_are_counted(database: Database, batch_id: str) -> None:
    query = {"postgresql": POSTGRESQL, "sqlite": SQLITE}[database.engine.dialect.name].replace("::", "\\:\\:")

    assert rows(database, query, batch_id) == [
        ("injection", "flag", 1, 0.75),
        ("injection", "pass", 1, 0.25),
        ("pii", "pass", 2, None),
    ]


def test_counts_of_a_batch_are_read(database: Database, batch_id: str) -> None:
    assert rows(database, COUNTS, batch_id) == [("injection", "input", "flag", 1, 1, 0, 0, 0.5)]


def test_scores_are_grouped(database: Database, batch_id: str) -> None:
    if database.engine.dialect.name != "sqlite":
        pytest.skip("the page has this query for SQLite")

    assert rows(database, THRESHOLD, batch_id) == [(0.3, 1), (0.8, 1)]
