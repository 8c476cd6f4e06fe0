"""The expressions for verdicts that docs/reference/output.md gives to SQL users."""

import re
from pathlib import Path

import pytest
from sqlalchemy import text

from models.db import Database
from models.documents import to_json
from producer.results import pages
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.guard_rows import verdict

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "output.md").read_text("utf-8")
COUNTS = {"postgresql": "jsonb_array_elements", "sqlite": "CROSS JOIN json_each"}
CAUGHT = {"postgresql": "@?", "sqlite": "EXISTS"}


@pytest.fixture
def batch_id(database: Database) -> str:
    batch_id = insert_batch(database, 4, id="batch_06h2ct5jnpnpm5t4md9m")
    fake_worker.write_results(database, batch_id, [(n, {"label": "a", "score": 0.5}) for n in range(4)])
    guards = {0: [verdict("a"), verdict("b")], 1: [verdict("a", "flag"), verdict("b")], 2: [verdict("a", "fail")]}
    column = "CAST(:guards AS jsonb)" if database.engine.dialect.name == "postgresql" else ":guards"
    for position, verdicts in guards.items():
        statement = f"UPDATE results SET guards = {column}, windows = 2 WHERE position = :position"
        execute(database, statement, guards=to_json(verdicts), position=position)
    return batch_id


def test_verdicts_are_counted(database: Database, batch_id: str) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    [query] = [block for block in blocks if COUNTS[database.engine.dialect.name] in block]

    with database.read() as connection:
        counts = list(connection.exec_driver_sql(query))

    assert counts == [("a", "fail", 1), ("a", "flag", 1), ("a", "pass", 1), ("b", "pass", 2)]


def test_caught_jobs_are_found(database: Database, batch_id: str) -> None:
    [condition] = [
        found for found in re.findall(r"`WHERE (.*?)`", PAGE) if CAUGHT[database.engine.dialect.name] in found
    ]

    with database.read() as connection:
        query = f"SELECT position FROM job_results WHERE {condition} ORDER BY position"
        positions = list(connection.execute(text(query)).scalars())

    assert positions == [1, 2]


def test_results_are_read_with_their_verdicts(database: Database, batch_id: str) -> None:
    rows = list(pages.iter_by_position(database, batch_id))

    assert [row.windows for row in rows] == [2, 2, 2, None]
    assert [row.as_dict()["guards"] and [v["action"] for v in row.as_dict()["guards"]] for row in rows] == [
        ["pass", "pass"],
        ["flag", "pass"],
        ["fail"],
        None,
    ]
