"""`results --to-sql` on both databases: typed, whole or not at all, and again without doubles."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import inspect, text

import batchmill
from models.db import Database
from models.dialects.columns import Document
from models.errors import UsageError
from producer.results import pages, tabular
from producer.results.tables import user_table
from producer.results.tabular import ColumnType, TabularLayout
from tests import fake_worker
from tests.factories.batch_rows import execute, get_batch, insert_batch

LAYOUT = TabularLayout.from_example(["text", "text_pair"], {"label": "x", "score": 1.0}, passthrough=["region"])


def good(place: int) -> dict[str, Any]:
    return {"label": "POSITIVE", "score": place / 4}


@pytest.fixture
def batch_id(database: Database) -> str:
    batch_id = insert_batch(database, 4)
    execute(database, """UPDATE jobs SET passthrough = '{"region": "EU"}' WHERE position < 2""")
    fake_worker.write_results(database, batch_id, [(2, good(2)), (0, good(0)), (1, "text_too_long")])
    return batch_id


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


def rows(database: Database, table: str = "labels") -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(text(f"SELECT * FROM {table} ORDER BY batch_id, position")))


def test_results_become_a_typed_table(database: Database, batch_id: str) -> None:
    result = run("results", batch_id, "--to-sql", "labels")

    assert result.exit_code == 0, result.stderr
    assert result.stderr == "wrote 3 results to the table labels; 1 jobs of the batch are unanswered\n"
    labels = rows(database)
    assert [(row.position, row.label, row.score, row.region, row.error_code) for row in labels] == [
        (0, "POSITIVE", 0.0, "EU", None),
        (1, None, None, "EU", "text_too_long"),
        (2, "POSITIVE", 0.5, None, None),
    ]
    with database.read() as connection:
        columns = {column["name"]: column["type"].python_type for column in inspect(connection).get_columns("labels")}
        key = inspect(connection).get_pk_constraint("labels")["constrained_columns"]
        query = "SELECT count(*) FROM labels l JOIN results r USING (batch_id, position) WHERE l.score >= 0.25"
        assert connection.scalar(text(query)) == 1
    assert key == ["batch_id", "position"]
    assert (columns["score"], columns["truncated"], columns["finished_at"]) == (float, bool, datetime)


def test_verdicts_and_windows_are_columns_that_an_older_table_gets(database: Database, batch_id: str) -> None:
    tables = ["labels"]
    if database.engine.dialect.name == "postgresql":
        execute(database, "CREATE SCHEMA analytics")
        tables.append("analytics.labels")
    execute(database, """UPDATE results SET windows = 2, guards = '[{"guard": "pii"}]' WHERE position = 2""")
    for table in tables:
        run("results", batch_id, "--to-sql", table)
        execute(database, f"ALTER TABLE {table} DROP COLUMN windows")
        execute(database, f"ALTER TABLE {table} DROP COLUMN guards")

        result = run("results", batch_id, "--to-sql", table)

        assert result.exit_code == 0, result.stderr
        with database.read() as connection:
            query = text(f"SELECT windows, guards FROM {table} WHERE position = 2").columns(guards=Document)
            assert connection.execute(query).one() == (2, [{"guard": "pii"}])
        execute(database, f"ALTER TABLE {table} DROP COLUMN model")
        assert "other columns" in run("results", batch_id, "--to-sql", table).stderr


@pytest.mark.parametrize("column", ["windows", "guards", "output_tokens", "finish_reason"])
def test_a_column_of_the_user_s_own_with_such_a_name_is_to_be_renamed(database: Database, column: str) -> None:
    layout = TabularLayout(("text",), (column,), (("label", ColumnType.TEXT),))
    user_table.write_table(database, "batch_1", "labels", [], layout)
    execute(database, f"ALTER TABLE labels DROP COLUMN {column}")
    execute(database, f"ALTER TABLE labels RENAME COLUMN meta_{column} TO {column}")

    with pytest.raises(UsageError, match=f"so rename a column {column} of your own to meta_{column}, name another"):
        user_table.write_table(database, "batch_1", "labels", [], layout)

    execute(database, f"ALTER TABLE labels RENAME COLUMN {column} TO meta_{column}")
    assert user_table.write_table(database, "batch_1", "labels", [], layout) == 0


def test_a_table_from_before_the_first_success_gets_the_outputs(database: Database) -> None:
    batch_id, other = insert_batch(database, 3), insert_batch(database, 1)

    early = run("results", batch_id, "--to-sql", "labels")
    assert rows(database) == []
    fake_worker.write_results(database, batch_id, [(1, "text_too_long")])
    failed_only = run("results", batch_id, "--to-sql", "labels")
    fake_worker.write_results(database, batch_id, [(0, good(2))])
    with_success = run("results", batch_id, "--to-sql", "labels")
    fake_worker.write_results(database, other, [(0, "text_too_long")])
    other_failed = run("results", other, "--to-sql", "labels")

    assert early.stderr.startswith("wrote 0 results"), early.stderr
    assert failed_only.stderr.startswith("wrote 1 results"), failed_only.stderr
    assert with_success.stderr.startswith("wrote 2 results"), with_success.stderr
    assert other_failed.stderr.startswith("wrote 1 results"), other_failed.stderr
    assert [(row.position, row.label, row.score, row.error_code) for row in rows(database)] == [
        (0, "POSITIVE", 0.5, None),
        (1, None, None, "text_too_long"),
        (0, None, None, "text_too_long"),
    ]


def test_a_success_that_lands_during_an_export_waits_for_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = insert_batch(database, 2)
    fake_worker.write_results(database, batch_id, [(1, "text_too_long")])
    find_layout = tabular.layout_for_batch

    def find_layout_late(*arguments: Any, **options: Any) -> TabularLayout:
        fake_worker.write_results(database, batch_id, [(0, good(2))])
        return find_layout(*arguments, **options)

    monkeypatch.setattr(tabular, "layout_for_batch", find_layout_late)
    assert run("results", batch_id, "--to-sql", "labels").stderr.startswith("wrote 1 results")


def test_again_it_is_brought_up_to_date(database: Database, batch_id: str) -> None:
    run("results", batch_id, "--to-sql", "labels")
    fake_worker.write_results(database, batch_id, [(3, good(3))])
    execute(database, "UPDATE results SET error_code = 'empty_text' WHERE position = 1")

    assert run("results", batch_id, "--to-sql", "labels").exit_code == 0

    assert [(row.position, row.error_code) for row in rows(database)] == [
        (0, None),
        (1, "empty_text"),
        (2, None),
        (3, None),
    ]


def test_only_what_is_new_and_several_batches(database: Database, batch_id: str) -> None:
    run("results", batch_id, "--to-sql", "labels")
    other = insert_batch(database, 2)
    execute(database, """UPDATE jobs SET passthrough = '{"region": "US"}' WHERE batch_id = :id""", id=other)
    fake_worker.write_results(database, other, [(1, good(1)), (0, good(0))])

    assert run("results", other, "--to-sql", "labels", "--after", "1").stderr.startswith("wrote 1 results")

    assert [(row.batch_id, row.position) for row in rows(database)][-1] == (other, 0)
    assert len(rows(database)) == 4


def test_whole_or_not_at_all(database: Database, batch_id: str) -> None:
    run("results", batch_id, "--to-sql", "labels")
    before = rows(database)
    stored = list(pages.iter_by_position(database, batch_id))

    def interrupted_rows() -> Iterator[pages.ResultRow]:
        yield stored[2]
        raise KeyboardInterrupt

    execute(database, "UPDATE labels SET score = 7")
    with pytest.raises(KeyboardInterrupt):
        user_table.write_table(database, batch_id, "labels", interrupted_rows(), LAYOUT)

    assert [row.score for row in rows(database)] == [7.0] * len(before)
    assert user_table.write_table(database, batch_id, "labels", stored, LAYOUT) == 3, "nothing is left in the way"
    assert rows(database) == before


def test_while_it_gathers_others_write(database: Database, batch_id: str) -> None:
    def meanwhile() -> Iterator[pages.ResultRow]:
        for row in pages.iter_by_position(database, batch_id):
            fake_worker.write_results(database, other, [(row.position, good(0))])
            yield row

    other = insert_batch(database, 4)

    assert user_table.write_table(database, batch_id, "labels", meanwhile(), LAYOUT) == 3
    assert get_batch(database, other).succeeded == 3


def test_a_table_with_other_columns_is_left_alone(database: Database, batch_id: str) -> None:
    execute(database, "CREATE TABLE labels (batch_id text, position bigint, mine text)")
    execute(database, "INSERT INTO labels (mine) VALUES ('kept')")

    result = run("results", batch_id, "--to-sql", "labels")

    assert result.exit_code == 2
    assert "the table labels has other columns than these results; name another, or drop it" in result.stderr
    assert [row.mine for row in rows(database)] == ["kept"]


@pytest.mark.parametrize(
    "name",
    ["jobs", "job_results", "alembic_version", "sqlite_x", "pg_class", "Labels", "a-b", "a b", '"; --', "", "x" * 64],
)
def test_names_that_are_not_one_s_own(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        user_table.check_table_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "analytics.jobs",
        "a.b.labels",
        ".labels",
        "pg_temp.labels",
        "information_schema.labels",
        "A.labels",
        "a b.labels",
        "a.",
    ],
)
def test_schemas_that_cannot_be_named(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        user_table.UserTable.parse(name)


def test_a_table_may_be_in_a_schema(database: Database, batch_id: str) -> None:
    missing = run("results", batch_id, "--to-sql", "analytics.labels")
    assert missing.exit_code == 2
    if database.engine.dialect.name == "sqlite":
        assert "SQLite has no schemas; write labels alone" in missing.stderr
        return
    assert "make it first: CREATE SCHEMA analytics" in missing.stderr
    execute(database, "CREATE SCHEMA analytics")
    execute(database, "CREATE TABLE labels (mine text)")

    for _ in range(2):
        result = run("results", batch_id, "--to-sql", "analytics.labels")
        assert result.stderr.startswith("wrote 3 results to the table analytics.labels"), result.stderr

    assert [row.position for row in rows(database, "analytics.labels")] == [0, 1, 2]
    execute(database, "ALTER TABLE analytics.labels ADD COLUMN mine text")
    assert (
        "the table analytics.labels has other columns"
        in run("results", batch_id, "--to-sql", "analytics.labels").stderr
    )


def test_it_does_not_go_with_a_cursor_s_options(batch_id: str, tmp_path: Path) -> None:
    for options in (["--to-sql", "labels", "--follow"], ["-o", str(tmp_path / "a.csv"), "--limit", "1"]):
        assert "leave out --follow and --limit" in run("results", batch_id, *options).stderr


def test_a_reserved_word_is_a_name_like_any_other(database: Database, batch_id: str) -> None:
    assert run("results", batch_id, "--to-sql", "order").exit_code == 0

    assert len(rows(database, '"order"')) == 3
