"""A query as a source, on both databases: read only, streamed, bounded in time, and of an operator's making."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import CursorResult, text

import batchmill
from models import tasks
from models.db import Database
from models.errors import SettingsError, SourceTooLarge, Unreachable, UnreadableSource, UsageError
from models.settings import Settings
from producer.readers.column_mapping import ColumnMapping
from producer.readers.limits import Limits
from producer.readers.rows import Problem, Row
from producer.readers.sql import query, sql_sources
from producer.readers.sql.sql_sources import SqlSource
from producer.submission.chunks import ChunkOptions, JobChunker
from tests.factories.batch_rows import execute, insert_batch

SPEC = tasks.find_spec("sentiment-analysis")
REVIEWS = "SELECT id, body, region FROM reviews WHERE region = :region ORDER BY id"
# Longer than any of the limits here.
SLOW = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1000000000) "
    "SELECT count(*) AS text FROM n",
    "postgresql": "SELECT 'a' AS text, pg_sleep(60)",
}


@pytest.fixture
def database(database: Database) -> Database:
    execute(database, "CREATE TABLE reviews (id integer PRIMARY KEY, body text, region text)")
    for number in range(1, 8):
        region = "eu" if number % 2 else "us"
        execute(database, "INSERT INTO reviews VALUES (:n, :body, :region)", n=number, body=f"r{number}", region=region)
    return database


def read(
    database: Database,
    sql: str = REVIEWS,
    columns: ColumnMapping | None = None,
    bound: dict[str, Any] | None = None,
    **more: Any,
) -> list[Row | Problem]:
    source = SqlSource(**{"name": "reviews", "url": database.url, "query": sql, **more})
    columns = columns or ColumnMapping.for_task(SPEC, {"text": "body"}, passthrough=["region"])
    with query.open_query(source, {"region": "eu"} if bound is None else bound, columns) as opened:
        return list(opened.rows)


LARGE = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {rows}) "
    "SELECT replace(hex(zeroblob({size} / 2)), '0', 'a') AS text FROM n",
    "postgresql": "SELECT repeat('a', {size}) AS text FROM generate_series(1, {rows})",
}


class TestRows:
    def test_are_those_of_the_query_with_its_parameters_bound(self, database: Database) -> None:
        assert read(database)[:2] == [
            Row(1, "1", {"text": "r1"}, {"region": "eu"}),
            Row(2, "3", {"text": "r3"}, {"region": "eu"}),
        ]
        hostile = {"region": "x' OR '1' = '1"}
        assert read(database, bound=hostile) == []
        assert len(read(database, bound={}, parameters={"region": "us"})) == 3

    def test_come_in_parts_and_are_counted_on(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(query, "FETCH_ROWS", 2)

        assert [row[0] for row in read(database)] == [1, 2, 3, 4]

    def test_are_not_read_before_they_are_taken(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """A billion rows would never fit."""
        monkeypatch.setattr(query, "FETCH_ROWS", 2)
        sql = SLOW["sqlite"].replace("count(*)", "'r' || x")
        source = SqlSource(name="all", url=database.url, query=sql, timeout_seconds=60)

        with query.open_query(source, {}, ColumnMapping.for_task(SPEC)) as opened:
            assert next(opened.rows)[2] == {"text": "r1"}

    def test_are_fewer_at_once_where_they_are_large(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(query, "FETCH_BYTES", 3_000)
        taken: list[int] = []
        fetch = CursorResult.fetchmany

        def noting(result: Any, size: int) -> Any:
            taken.append(size)
            return fetch(result, size)

        monkeypatch.setattr(CursorResult, "fetchmany", noting)
        sql = LARGE["sqlite" if database.url.startswith("sqlite") else "postgresql"].format(rows=60, size=1_000)

        assert len(read(database, sql, ColumnMapping.for_task(SPEC), {})) == 60
        assert taken[0] == query.FIRST_FETCH_ROWS
        assert set(taken[1:]) == {3}

    def test_one_that_is_too_large_is_its_own_problem(self, database: Database) -> None:
        sql = LARGE["sqlite" if database.url.startswith("sqlite") else "postgresql"].format(rows=1, size=17_000_000)

        [problem, row] = read(database, f"{sql} UNION ALL SELECT 'a'", ColumnMapping.for_task(SPEC), {})

        assert problem == Problem(1, "is longer than 16 MiB; split it", "row_too_large")
        assert row == Row(2, None, {"text": "a"})

    def test_an_empty_cell_is_the_problem_of_its_row(self, database: Database) -> None:
        execute(database, "UPDATE reviews SET id = 9, region = NULL WHERE id = 7")

        found = read(
            database, "SELECT region FROM reviews ORDER BY id", ColumnMapping.for_task(SPEC, {"text": "region"}), {}
        )
        assert found[-1] == Row(7, None, {"text": None})


class TestRefusals:
    @pytest.mark.parametrize(
        "statement", ["DELETE FROM reviews", "INSERT INTO reviews VALUES (99, 'a', 'b')", "DROP TABLE reviews"]
    )
    def test_nothing_can_be_written(self, database: Database, statement: str) -> None:
        with pytest.raises(UnreadableSource):
            read(database, statement, ColumnMapping.for_task(SPEC), {})

        assert len(read(database)) == 4

    def test_a_writing_part_of_a_select_neither(self, database: Database) -> None:
        if database.url.startswith("sqlite"):
            pytest.skip("SQLite has none")

        with pytest.raises(UnreadableSource, match="fails"):
            read(database, "WITH gone AS (DELETE FROM reviews RETURNING body) SELECT * FROM gone", None, {})

        assert len(read(database)) == 4

    def test_more_than_the_settings_allow_is_refused_where_it_begins(self, database: Database) -> None:
        source = SqlSource(name="reviews", url=database.url, query="SELECT id, body FROM reviews ORDER BY id")
        columns = ColumnMapping.for_task(SPEC, {"text": "body"})

        with (
            query.open_query(source, {}, columns, limits=Limits(max_source_bytes=25)) as opened,
            pytest.raises(SourceTooLarge, match=r"the source 'reviews', row 3: .* more than 25 bytes"),
        ):
            list(opened.rows)

    def test_a_value_that_sqlite_would_need_gigabytes_for_is_said(self, tmp_path: Path) -> None:
        Database(f"sqlite:///{tmp_path}/a.db").engine.connect().close()
        source = SqlSource(name="x", url=f"sqlite:///{tmp_path}/a.db", query="SELECT hex(zeroblob(300000000)) AS text")

        with (
            query.open_query(source, {}, ColumnMapping.for_task(SPEC)) as opened,
            pytest.raises(UnreadableSource, match="the source 'x' has a row of more than 64 MiB"),
        ):
            list(opened.rows)

    @pytest.mark.parametrize("driver", ["", "+psycopg", "+psycopg2", "+asyncpg", "+pg8000", "+aiosqlite", "+pysqlite"])
    def test_what_another_library_connects_by_is_left_out_of_a_url(self, database: Database, driver: str) -> None:
        scheme, _, rest = database.url.partition("://")
        bare = scheme.partition("+")[0]
        source = SqlSource(name="x", url=f"{bare}{driver}://{rest}", query="SELECT 'a' AS text")

        with query.open_query(source, {}, ColumnMapping.for_task(SPEC)) as opened:
            assert list(opened.rows) == [Row(1, None, {"text": "a"})]

    def test_a_query_that_takes_too_long_is_ended(self, database: Database) -> None:
        sql = SLOW["sqlite" if database.url.startswith("sqlite") else "postgresql"]

        with pytest.raises(Unreachable, match="the source 'reviews' does not answer"):
            read(database, sql, ColumnMapping.for_task(SPEC), {}, timeout_seconds=0.05)

    @pytest.mark.parametrize(
        ("sql", "words"),
        [
            ("SELECT nothing FROM nowhere", "the query of the source 'reviews' fails: "),
            ("SELEC 1", "the query of the source 'reviews' fails: "),
            ("SELECT id, id FROM reviews", "has two columns 'id'; rename one with AS"),
            ("SELECT id FROM reviews", "has no column 'body'; it has: id"),
        ],
    )
    def test_a_wrong_query_is_said(self, database: Database, sql: str, words: str) -> None:
        with pytest.raises(UnreadableSource, match=words):
            read(database, sql, None, {})

    def test_parameters_are_checked_before_anything_is_read(self, database: Database) -> None:
        with pytest.raises(UsageError, match=r"needs region; bind region=VALUE"):
            read(database, bound={})
        with pytest.raises(UsageError, match="has no parameter 'day'; it has: region"):
            read(database, bound={"region": "eu", "day": 1})
        with pytest.raises(UsageError, match="must be text, a number or null"):
            read(database, bound={"region": ["eu"]})

    def test_a_database_that_is_away_is_said_without_its_password(self) -> None:
        for url in ("postgresql://me:canary@127.0.0.1:1/x", "sqlite:////nowhere/at/all.db"):
            source = SqlSource(name="away", url=url, query="SELECT 1 AS text")
            with (
                query.open_query(source, {}, ColumnMapping.for_task(SPEC)) as opened,
                pytest.raises(Unreachable) as caught,
            ):
                list(opened.rows)
            assert "the source 'away' does not answer" in str(caught.value)
            assert "canary" not in str(caught.value)

    def test_another_kind_of_database_is_refused(self) -> None:
        settings = Settings.load(sources={"other": {"url": "mysql://u:canary@x/y", "query": "SELECT 1 AS text"}})
        with pytest.raises(SettingsError, match=r"^\[sources.other\] url: it must begin with postgresql://") as caught:
            sql_sources.find_sql_source(settings, "other")
        assert "canary" not in str(caught.value)


class TestSettings:
    def test_a_source_is_found_by_its_name(self) -> None:
        settings = Settings.load(sources={"mine": {"url": "sqlite:///a.db", "query": "SELECT 1"}})

        assert sql_sources.find_sql_source(settings, "mine").timeout_seconds == 300
        with pytest.raises(UsageError, match="there is no source 'other'; there are: mine; an operator adds"):
            sql_sources.find_sql_source(settings, "other")

    def test_a_wrong_entry_is_named(self) -> None:
        with pytest.raises(SettingsError, match=r"\[sources.mine\] url is missing"):
            sql_sources.find_sql_source(Settings.load(sources={"mine": {"query": "SELECT 1"}}), "mine")

    def test_its_url_may_stand_in_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "batchmill.toml").write_text("[sources.mine]\nquery = 'SELECT 1'\n")
        monkeypatch.setenv("BATCHMILL_SOURCES__MINE__URL", "postgresql://me:secret@db/x")

        assert sql_sources.find_sql_source(Settings.load(), "mine").url == "postgresql://me:secret@db/x"

    def test_a_file_is_looked_for_from_the_settings_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_CONFIG", str(tmp_path / "batchmill.toml"))
        for url, found in (
            ("sqlite:///in/shop.db", f"sqlite:///{tmp_path}/in/shop.db"),
            ("sqlite:////srv/shop.db", "sqlite:////srv/shop.db"),
            ("sqlite:///~/shop.db", "sqlite:///~/shop.db"),
            ("postgresql://shop/shop", "postgresql://shop/shop"),
        ):
            (tmp_path / "batchmill.toml").write_text(f"[sources.mine]\nurl = '{url}'\nquery = 'SELECT 1'\n")

            assert sql_sources.find_sql_source(Settings.load(), "mine").url == found


def test_the_command(database: Database, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of the very database that the batch goes into: on SQLite a reader holds up no writer."""
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", database.url)
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
    monkeypatch.chdir(tmp_path)
    Path("batchmill.toml").write_text(f"[sources.reviews]\nurl = {json.dumps(database.url)}\nquery = '{REVIEWS}'\n")
    command = [
        "submit",
        "--sql",
        "reviews",
        "--bind",
        "region=eu",
        "-p",
        "sample-sentiment-analysis",
        "--input",
        "text=body",
        "--idempotency-key",
        "night",
    ]
    insert_batch(database, 1)

    result = CliRunner().invoke(batchmill.cli, command)

    assert result.exit_code == 0, result.stderr
    with database.read() as connection:
        found = connection.execute(
            text("SELECT custom_id FROM jobs WHERE batch_id = :id ORDER BY position"), {"id": result.stdout.strip()}
        )
        assert list(found.scalars()) == ["1", "3", "5", "7"]
    assert CliRunner().invoke(batchmill.cli, command).stdout == result.stdout
    assert "say what to submit" in CliRunner().invoke(batchmill.cli, [*command, "a.jsonl"]).stderr
    assert "name the query with --sql" in CliRunner().invoke(batchmill.cli, ["submit", "-", *command[3:]]).stderr


class TestValuesThatPythonHasNot:
    @pytest.mark.parametrize(
        "value",
        [
            "'infinity'::date",
            "'-infinity'::timestamp",
            "'infinity'::timestamptz",
            "'0044-03-15 BC'::date",
            "'294276-01-01'::timestamp",
            "'24:00'::time",
            "'178000000 years'::interval",
            "ARRAY['infinity'::date]",
            "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
            "B'1'",
            "'10.0.0.1'::inet",
            "'\\x00'::bytea",
            "'[1,3)'::int4range",
            "ROW(1, 'a')",
            "numrange(1, 'infinity')",
            "'NaN'::numeric",
            "'NaN'::float8",
        ],
    )
    def test_are_the_problem_of_their_row(self, postgresql_url: str, value: str) -> None:
        sql = f"SELECT n AS id, 'a' AS text, CASE WHEN n = 2 THEN {value} END AS kept FROM generate_series(1, 3) AS n"
        source = SqlSource(name="reviews", url=postgresql_url, query=sql)

        with query.open_query(source, {}, ColumnMapping.for_task(SPEC, passthrough=["kept"])) as opened:
            first, second, third = opened.rows

        assert [first, third] == [Row(n, str(n), {"text": "a"}, {"kept": None}) for n in (1, 3)]
        assert isinstance(second, Row) or (second.location, second.code) == (2, "invalid_passthrough")

    def test_ids_are_text(self, postgresql_url: str) -> None:
        uuid = "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid"
        sql = f"SELECT {uuid} AS id, 'a' AS text UNION ALL SELECT gen_random_uuid(), 'b'"
        exact = "SELECT 12345678901234567890::numeric(20,0) AS id, 'a' AS text"

        found = []
        for wanted in (sql, exact):
            with query.open_query(
                SqlSource(name="x", url=postgresql_url, query=wanted), {}, ColumnMapping.for_task(SPEC)
            ) as opened:
                found.append(next(opened.rows))

        assert [row[1] for row in found] == ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "12345678901234567890"]

    def test_sqlite_s_text_that_is_none(self, tmp_path: Path) -> None:
        sql = "SELECT 1 AS id, 'a' AS text UNION ALL SELECT 2, CAST(x'ff61' AS text)"
        Database(f"sqlite:///{tmp_path}/a.db").engine.connect().close()
        source = SqlSource(name="x", url=f"sqlite:///{tmp_path}/a.db", query=sql)

        with query.open_query(source, {}, ColumnMapping.for_task(SPEC)) as opened:
            found = list(JobChunker(SPEC, opened, options=ChunkOptions(keep_invalid=True)).chunks())

        [chunk] = found
        assert (
            chunk.failures[1].message
            == "text has text that is not UTF-8; repair it, or select it as hex() (its input is kept in part)"
        )
