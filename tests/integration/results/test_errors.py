"""`batchmill errors` on both databases: what failed, apart from the rest and in the order of the source."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from models.db import Database
from models.states import JobOutcome
from producer.cli.results import errors as errors_command
from producer.results import pages
from producer.results.json_lines import JSON
from producer.results.result_columns import COLUMNS, RowShape
from tests import fake_worker
from tests.factories.batch_rows import insert_batch
from tests.factories.guard_rows import insert_guards

GOOD = {"label": "POSITIVE", "score": 0.5}


@pytest.fixture
def batch_id(database: Database) -> str:
    batch_id = insert_batch(database, 5)
    fake_worker.write_results(
        database, batch_id, [(4, "empty_text"), (0, GOOD), (1, "text_too_long"), (3, GOOD), (2, "empty_text")]
    )
    fake_worker.end_batch(database, batch_id)
    return batch_id


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


@pytest.mark.parametrize("page", [1, 2, 3])
def test_failed_rows_come_by_position(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(pages, "PAGE_ROWS", page)

    assert [row.position for row in pages.iter_failed(database, batch_id)] == [1, 2, 4]
    assert [row.position for row in pages.iter_failed(database, batch_id, "empty_text")] == [2, 4]
    assert [row.position for row in pages.iter_failed(database, batch_id, limit=2)] == [1, 2]


def test_into_a_pipe_they_are_lines_of_the_results(batch_id: str) -> None:
    rows = [json.loads(line) for line in run("errors", batch_id).stdout.splitlines()]

    assert [row["position"] for row in rows] == [1, 2, 4]
    assert rows[0]["error_code"] == "text_too_long"
    assert [row for row in _results(batch_id) if row["error_code"]] == sorted(rows, key=lambda row: row["seq"])
    assert run("errors", batch_id, "--json").stdout == run("errors", batch_id).stdout


def test_on_a_terminal_blocked_rows_are_grouped_by_guard(
    database: Database, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors_command, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    assert "guards" not in run("errors", batch_id).stderr
    guard = {"stage": "input", "action": "fail"}
    insert_guards(database, batch_id, {"guard": "a", "blocked": 2, **guard}, {"guard": "b", "passed": 3, **guard})

    assert run("errors", batch_id).stderr == "blocked by guards: 2 by a\n"


def test_one_code_and_a_limit(batch_id: str) -> None:
    only = run("errors", batch_id, "--code", "empty_text", "-n", "1").stdout.splitlines()

    assert [json.loads(line)["position"] for line in only] == [2]


def test_a_file(batch_id: str, tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"

    result = run("errors", batch_id, "-o", str(path))

    assert f"wrote 3 results to {path}" in result.stderr
    with path.open(newline="") as file:
        assert [row["error_code"] for row in csv.DictReader(file)] == ["text_too_long", "empty_text", "empty_text"]


def test_a_table_on_a_terminal(batch_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)

    result = run("errors", batch_id, "-n", "2")

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["POSITION", "ID", "CODE", "WHY", "INPUT"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    assert "text_too_long" in lines[1]
    assert f"batchmill errors {batch_id} -o" in result.stderr


def test_there_must_be_a_batch(database: Database) -> None:
    assert run("errors", "batch_nope").exit_code == 4


def _results(batch_id: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in run("results", batch_id).stdout.splitlines()]


@pytest.mark.parametrize("shape", [COLUMNS, JSON], ids=["columns", "json"])
def test_few_failures_among_many_are_found_by_their_index(
    database: Database, batch_id: str, shape: RowShape[Any]
) -> None:
    dialect = database.engine.dialect.name
    explain = "EXPLAIN QUERY PLAN" if dialect == "sqlite" else "EXPLAIN"
    query = f"{explain} {pages._by_position_query(dialect, shape, [JobOutcome.FAILED], has_code=False).text}"
    with database.read() as connection:
        if dialect == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # for a handful of rows it is the quickest
        plan = connection.execute(text(query), {"batch_id": batch_id, "cursor": -1, "after": 0, "limit": 9}).all()

    assert "results_failed" in str(plan)
