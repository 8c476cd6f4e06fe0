"""The sources of runs: each row is read once, in one snapshot, and late sources are waited for."""

import gzip
import os
import random
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from models import tasks
from models.db import Database
from models.errors import MissingSource, SourceNotReady, Unreachable, UnreadableSource, UsageError
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from producer.readers.column_mapping import ColumnMapping
from producer.readers.rows import Row
from producer.readers.sql import query
from producer.readers.sql.sql_sources import SqlSource
from producer.results.tabular import ColumnType
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import sources
from producer.schedules.runs.sources import IdTypes, SourceTimes
from tests.factories.batch_rows import execute

SPEC = tasks.find_spec("sentiment-analysis")
SCHEDULED_AT = datetime(2026, 11, 24, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TIMES = SourceTimes(SCHEDULED_AT, SCHEDULED_AT - DAY, SCHEDULED_AT)
NEW = "SELECT id, body AS text FROM tickets WHERE made >= :since AND made < :until ORDER BY id"
BASE: dict[str, Any] = {"pipeline": "sample-sentiment-analysis", "cron": "0 2 * * *", "tz": "Europe/Berlin"}


@pytest.fixture
def database(database: Database, database_url: str) -> Database:
    kind = "text" if database_url.startswith("sqlite") else "timestamptz"
    execute(database, f"CREATE TABLE tickets (id integer PRIMARY KEY, body text, made {kind})")
    return database


def ticket(database: Database, number: int, made: datetime, body: str = "a text") -> None:
    time: object = made
    if database.url.startswith("sqlite"):
        time = made.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    execute(database, "INSERT INTO tickets VALUES (:id, :body, :made)", id=number, body=body, made=time)


def settings_of(database: Database, sql: str = NEW, **fields: Any) -> Settings:
    return Settings.load(sources={"tickets": {"url": database.url, "query": sql, **fields}})


def read_rows(
    settings: Settings,
    said: dict[str, Any],
    scheduled_at: datetime = SCHEDULED_AT,
    since: datetime = SCHEDULED_AT - DAY,
    until: datetime = SCHEDULED_AT,
) -> list[Row]:
    schedule = ScheduleDefinition.from_fields("nightly", {**BASE, **said})
    with sources.open_source(settings, schedule, SPEC, SourceTimes(scheduled_at, since, until)) as source:
        return list(source.rows)  # type: ignore[arg-type]


def ids(rows: list[Row]) -> list[str]:
    return [str(row.custom_id) for row in rows]


ID_TYPES = {
    "SELECT 1 AS id": ColumnType.INTEGER,
    "SELECT '1' AS id": ColumnType.TEXT,
    "SELECT 1 AS custom_id, 'a' AS id": ColumnType.INTEGER,
    "SELECT 1.5 AS id": ColumnType.TEXT,
    "SELECT NULL AS id": ColumnType.TEXT,
}
UUID_QUERY = "SELECT CAST('7d444840-9dc0-11d1-b245-5ffdce74fad2' AS uuid) AS id"
MIXED_QUERY = "SELECT 1 AS id UNION ALL SELECT 'a' AS id"


def test_the_type_of_the_ids_is_that_of_all_rows(database: Database) -> None:
    is_sqlite = database.url.startswith("sqlite")
    own = {MIXED_QUERY: ColumnType.TEXT} if is_sqlite else {UUID_QUERY: ColumnType.UUID}
    schedule = ScheduleDefinition.from_fields("nightly", {**BASE, "sql": "tickets"})

    for select, id_type in (ID_TYPES | own).items():
        settings = settings_of(database, f"SELECT 'a text' AS text, ids.* FROM ({select}) AS ids")
        id_types = IdTypes(schedule)
        with sources.open_source(settings, schedule, SPEC, TIMES, id_types=id_types) as source:
            list(source.rows)
        assert id_types.common_type is id_type, select


class TestTimes:
    def test_a_run_has_what_is_new_from_its_beginning_to_before_its_end(self, database: Database) -> None:
        times = [
            SCHEDULED_AT - DAY - timedelta.resolution,
            SCHEDULED_AT - DAY,
            SCHEDULED_AT - timedelta.resolution,
            SCHEDULED_AT,
        ]
        for number, created in enumerate(times):
            ticket(database, number, created)

        assert ids(read_rows(settings_of(database), {"sql": "tickets"})) == ["1", "2"]

    def test_no_row_is_missed_or_taken_twice_between_runs(self, database: Database) -> None:
        """Whole seconds and parts of them, on the edges and beside them; a run's end is the next one's beginning."""
        chance = random.Random(7)
        edges = [
            SCHEDULED_AT + timedelta(seconds=chance.randrange(10**5), microseconds=chance.choice([0, 1, 500_000]))
            for _ in range(8)
        ]
        edges = sorted({*edges, SCHEDULED_AT, SCHEDULED_AT + 2 * DAY})
        created = [edge + timedelta(microseconds=by) for edge in edges[:-1] for by in (-1, 0, 1)]
        created = [time for time in created if time >= edges[0]]
        for number, created_at in enumerate(created):
            ticket(database, number, created_at)

        settings = settings_of(database)
        inputs = [read_rows(settings, {"sql": "tickets"}, until, since, until) for since, until in pairwise(edges)]

        assert sorted(int(item) for rows in inputs for item in ids(rows)) == list(range(len(created)))

    def test_they_may_be_of_any_zone(self, database: Database) -> None:
        ticket(database, 1, SCHEDULED_AT)
        tokyo = ZoneInfo("Asia/Tokyo")
        since, until = SCHEDULED_AT.astimezone(tokyo), (SCHEDULED_AT + timedelta(seconds=1)).astimezone(tokyo)

        assert ids(read_rows(settings_of(database), {"sql": "tickets"}, since=since, until=until)) == ["1"]

    def test_they_compare_with_the_database_s_own_clock(self, database: Database) -> None:
        now = datetime.now(UTC)
        sql = "SELECT 1 AS id, 'a' AS text WHERE CURRENT_TIMESTAMP >= :since AND CURRENT_TIMESTAMP < :until"
        hour = timedelta(hours=1)

        assert read_rows(settings_of(database, sql), {"sql": "tickets"}, since=now - hour, until=now + hour)
        assert not read_rows(settings_of(database, sql), {"sql": "tickets"}, since=now + hour, until=now + 2 * hour)

    def test_a_session_of_postgresql_s_is_utc_read_only_and_of_one_moment_wherever_it_runs(
        self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGTZ", "Asia/Tokyo")
        names = ("timezone", "transaction_isolation", "transaction_read_only")
        output = " || ', ' || ".join(f"current_setting('{name}')" for name in names)
        rows = read_rows(settings_of(Database(postgresql_url), f"SELECT {output} AS text"), {"sql": "tickets"})
        assert rows[0].raw_input == {"text": "UTC, repeatable read, on"}

    def test_the_scheduled_time_itself_can_be_asked_for(self, database: Database) -> None:
        sql = "SELECT 1 AS id, 'a' AS text WHERE :scheduled_at > :until"
        assert read_rows(settings_of(database, sql), {"sql": "tickets"}, until=SCHEDULED_AT - DAY)
        assert not read_rows(settings_of(database, sql), {"sql": "tickets"}, scheduled_at=SCHEDULED_AT - 2 * DAY)

    def test_nobody_else_can_bind_them(self, database: Database) -> None:
        source = SqlSource(name="tickets", url=database.url, query=NEW)
        with pytest.raises(UsageError, match="parameter 'since' of the source 'tickets' is set by the schedule"):
            source.bind({"since": "1970-01-01"}, {"since": SCHEDULED_AT, "until": SCHEDULED_AT})
        own = settings_of(database, parameters={"since": "1970-01-01", "until": "2100-01-01"})
        ticket(database, 1, SCHEDULED_AT - 9 * DAY)
        assert read_rows(own, {"sql": "tickets"}) == []

    def test_without_a_schedule_they_are_parameters_like_others(self, database: Database) -> None:
        source = SqlSource(name="tickets", url=database.url, query=NEW)
        with pytest.raises(UsageError, match="needs since, until; bind since=VALUE"):
            source.bind({})
        ticket(database, 1, SCHEDULED_AT)
        bound = {"since": "2026-11-24", "until": "2026-11-25"}
        with query.open_query(source, bound, ColumnMapping.for_task(SPEC)) as opened:
            assert [row.custom_id for row in opened.rows if isinstance(row, Row)] == ["1"]


class TestInjection:
    @pytest.mark.parametrize(
        "hostile",
        [
            "x' OR '1'='1",
            "'; DROP TABLE tickets; --",
            "\\'; DELETE FROM tickets; --",
            ":since",
            "%(since)s",
            "$1",
            "?",
            "NULL",
            "' UNION SELECT 1, 'a' --",
            "\N{RIGHT SINGLE QUOTATION MARK} OR 1=1",
        ],
    )
    def test_a_bound_value_is_never_part_of_the_query(self, database: Database, hostile: str) -> None:
        ticket(database, 1, SCHEDULED_AT - DAY, "a text")
        ticket(database, 2, SCHEDULED_AT - DAY, hostile)
        sql = "SELECT id, body AS text FROM tickets WHERE body = :body AND made >= :since AND made < :until"

        assert ids(read_rows(settings_of(database, sql), {"sql": "tickets", "bind": {"body": hostile}})) == ["2"]
        with database.read() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM tickets").scalar() == 2


class TestOneMoment:
    def test_what_changes_while_it_is_read_does_not_show(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(query, "FETCH_ROWS", 10)
        for number in range(100):
            ticket(database, number, SCHEDULED_AT - DAY, f"text {number}")
        schedule = ScheduleDefinition.from_fields("nightly", {**BASE, "sql": "tickets"})

        with sources.open_source(settings_of(database), schedule, SPEC, TIMES) as source:
            result = [next(source.rows) for _ in range(10)]
            execute(database, "DELETE FROM tickets WHERE id BETWEEN 50 AND 59")
            execute(database, "UPDATE tickets SET body = 'changed', made = NULL WHERE id >= 60")
            execute(database, "UPDATE tickets SET id = id + 1000 WHERE id < 5")
            ticket(database, 49_999, SCHEDULED_AT - DAY)
            result += [next(source.rows) for _ in range(30)]
            if database.url.startswith("sqlite"):  # PostgreSQL would wait for the reader
                execute(database, "DROP TABLE tickets")
            result += source.rows

        assert [(row.custom_id, row.raw_input) for row in result if isinstance(row, Row)] == [
            (str(number), {"text": f"text {number}"}) for number in range(100)
        ]


class TestWaiting:
    def test_for_a_source_that_this_machine_does_not_know(self) -> None:
        with pytest.raises(SourceNotReady, match=r"this machine has no \[sources.tickets\]"):
            read_rows(Settings.load(), {"sql": "tickets"})

    def test_for_a_pipeline_that_it_does_not_know(self) -> None:
        schedule = ScheduleDefinition.from_fields("nightly", {**BASE, "sql": "tickets", "pipeline": "elsewhere"})
        with pytest.raises(SourceNotReady, match="on this machine there is no pipeline 'elsewhere'"):
            sources.pipeline_for(schedule, Catalogue.load(Settings.load()))

    def test_for_a_source_that_is_set_wrongly_here(self) -> None:
        for wrong in ({}, {"url": "mysql://x/y", "query": "SELECT 1 AS text"}):
            with pytest.raises(SourceNotReady, match=r"\[sources.tickets\]"):
                read_rows(Settings.load(sources={"tickets": wrong}), {"sql": "tickets"})

    def test_for_a_database_that_is_away(self) -> None:
        for url in ("postgresql://me:canary@127.0.0.1:1/x", "sqlite:////nowhere/at/all.db"):
            settings = Settings.load(sources={"tickets": {"url": url, "query": "SELECT 1 AS text"}})
            with pytest.raises(SourceNotReady, match="does not answer") as raised:
                read_rows(settings, {"sql": "tickets"})
            assert "canary" not in str(raised.value)

    def test_but_not_for_a_wrong_query(self, database: Database) -> None:
        with pytest.raises(UnreadableSource, match="the query of the source 'tickets' fails"):
            read_rows(settings_of(database, "SELECT nothing FROM nowhere"), {"sql": "tickets"})

    def test_what_the_reader_of_the_rows_meets_is_its_own(self, database: Database) -> None:
        ticket(database, 1, SCHEDULED_AT - DAY)
        schedule = ScheduleDefinition.from_fields("nightly", {**BASE, "sql": "tickets"})

        def taken() -> None:
            with sources.open_source(settings_of(database), schedule, SPEC, TIMES) as source:
                next(source.rows)
                raise Unreachable("ours")

        with pytest.raises(Unreachable, match="ours"):
            taken()


class TestFiles:
    LONG_AGO = 1_700_000_000

    def put(self, path: Path, text: str | bytes, seconds: float = LONG_AGO) -> Path:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        os.utime(path, (seconds, seconds))
        return path

    def read(self, pattern: Path | str, clock: float = LONG_AGO + 60, **fields: Any) -> list[Any]:
        schedule = ScheduleDefinition.from_fields("nightly", {**BASE, "file": str(pattern), **fields})
        with sources.open_source(Settings.load(), schedule, SPEC, TIMES, lambda: clock) as source:
            return [row.raw_input for row in source.rows if isinstance(row, Row)]

    def test_the_scheduled_time_s_file_is_read(self, tmp_path: Path) -> None:
        self.put(tmp_path / "in" / "2026-11-23.jsonl", '"yesterday"\n')
        self.put(tmp_path / "in" / "2026-11-24.jsonl", '"today"\n')
        assert self.read(tmp_path / "in" / "{time:%Y-%m-%d}.jsonl") == ["today"]

    def test_or_files_by_a_pattern_or_url(self, tmp_path: Path) -> None:
        for part in "ba":
            self.put(tmp_path / f"2026-11-24-{part}.csv", f"text\n{part}\n")
        assert self.read(tmp_path / "{time:%Y-%m-%d}-*.csv") == [{"text": "a"}, {"text": "b"}]
        assert self.read(f"file://{tmp_path}/{{time:%Y-%m-%d}}-a.csv") == [{"text": "a"}]
        assert self.read(f"file://{tmp_path}/{{time:%Y-%m-%d}}-*.csv") == [{"text": "a"}, {"text": "b"}]

    def test_a_table_without_a_header_has_the_names_that_the_schedule_gives(self, tmp_path: Path) -> None:
        self.put(tmp_path / "2026-11-24.csv", "1,good\n2,bad\n")

        for names in ("id,text", ["id", "text"]):
            assert self.read(tmp_path / "{time:%Y-%m-%d}.csv", column_names=names) == [
                {"text": "good"},
                {"text": "bad"},
            ]

    def test_a_file_that_is_not_there_is_waited_for(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotReady, match=r"there is no file .*2026-11-24\.jsonl"):
            self.read(tmp_path / "{time:%Y-%m-%d}.jsonl")
        with pytest.raises(SourceNotReady, match="no file matches"):
            self.read(tmp_path / "{time:%Y-%m-%d}-*.jsonl")
        with pytest.raises(SourceNotReady, match="there is no file"):
            self.read(f"file://{tmp_path}/{{time:%Y-%m-%d}}.jsonl")

    def test_what_a_schedule_may_not_name_fails_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Waiting would not help, and what is there tells whoever may not read it nothing."""
        self.put(tmp_path / "data" / "2026-11-24.jsonl", '"ours"\n')
        self.put(tmp_path / "2026-11-24.jsonl", '"others"\n')
        (tmp_path / "data" / "2026-11-24-link.jsonl").symlink_to(tmp_path / "2026-11-24.jsonl")
        monkeypatch.setenv("BATCHMILL_SOURCE_ROOTS", str(tmp_path / "data"))

        assert self.read(tmp_path / "data" / "{time:%Y-%m-%d}.jsonl") == ["ours"]
        for text in (
            f"{tmp_path}/{{time:%Y-%m-%d}}.jsonl",
            f"file://{tmp_path}/{{time:%Y-%m-%d}}*.jsonl",
            f"{tmp_path}/data/{{time:%Y-%m-%d}}-link.jsonl",
            "/etc/{time:%Y-%m-%d}.jsonl",
            "s3://b/{time:%Y-%m-%d}.jsonl",
            "http://169.254.169.254/{time:%Y-%m-%d}.jsonl",
            "simplecache::file:///etc/{time:%Y-%m-%d}.jsonl",
        ):
            with pytest.raises(UnreadableSource) as refused:
                self.read(text)
            assert not isinstance(refused.value, MissingSource), text

    def test_a_file_that_is_still_written_to_is_waited_for(self, tmp_path: Path) -> None:
        pattern = tmp_path / "{time:%Y-%m-%d}.jsonl"
        self.put(tmp_path / "2026-11-24.jsonl", '"a"\n', self.LONG_AGO)
        with pytest.raises(SourceNotReady, match="still being written"):
            self.read(pattern, self.LONG_AGO + sources.MIN_FILE_AGE_SECONDS - 1)
        with pytest.raises(SourceNotReady, match="still being written"):
            self.read(pattern, self.LONG_AGO - 60)  # its writer's clock is ahead
        assert self.read(pattern, self.LONG_AGO + sources.MIN_FILE_AGE_SECONDS) == ["a"]
        assert self.read(pattern, self.LONG_AGO - 10 * 86_400) == ["a"]  # from somewhere with another calendar

    def test_by_the_machine_s_own_clock(self, tmp_path: Path) -> None:
        self.put(tmp_path / "2026-11-24.jsonl", '"a"\n', time.time())
        with pytest.raises(SourceNotReady, match="still being written"):
            read_rows(Settings.load(), {"file": str(tmp_path / "{time:%Y-%m-%d}.jsonl")})

    def test_one_of_several_that_is_still_written_to_is_enough(self, tmp_path: Path) -> None:
        self.put(tmp_path / "2026-11-24-a.csv", "text\na\n")
        self.put(tmp_path / "2026-11-24-b.csv", "text\nb\n", self.LONG_AGO + 58)
        with pytest.raises(SourceNotReady, match=r"-b\.csv is still being written"):
            self.read(tmp_path / "{time:%Y-%m-%d}-*.csv")

    @pytest.mark.parametrize("change", ["more", "another", "gone"])
    def test_a_file_that_changes_while_it_is_read_is_read_again_later(self, tmp_path: Path, change: str) -> None:
        path = self.put(tmp_path / "2026-11-24-a.jsonl", '"a"\n"b"\n')
        schedule = ScheduleDefinition.from_fields(
            "nightly", {**BASE, "file": str(tmp_path / "{time:%Y-%m-%d}-*.jsonl")}
        )

        with sources.open_source(Settings.load(), schedule, SPEC, TIMES) as source:
            next(source.rows)
            if change == "more":
                self.put(path, '"a"\n"b"\n"c"\n')
            elif change == "another":
                self.put(tmp_path / "2026-11-24-b.jsonl", '"c"\n')
            else:
                path.unlink()
            with pytest.raises(SourceNotReady):
                list(source.rows)

    def test_a_file_cut_short_is_waited_for_only_if_it_is_still_written_to(self, tmp_path: Path) -> None:
        chance = random.Random(7)
        lines = "".join(f'"{chance.random()}"\n' for _ in range(200_000))
        whole = gzip.compress(lines.encode(), 1)
        path = self.put(tmp_path / "2026-11-24.jsonl.gz", whole[: len(whole) // 2])
        pattern = tmp_path / "{time:%Y-%m-%d}.jsonl.gz"
        with pytest.raises(UnreadableSource):
            self.read(pattern)
        schedule = ScheduleDefinition.from_fields("nightly", {**BASE, "file": str(pattern)})

        with sources.open_source(Settings.load(), schedule, SPEC, TIMES) as source:
            next(source.rows)
            os.utime(path, (self.LONG_AGO + 5, self.LONG_AGO + 5))
            with pytest.raises(SourceNotReady, match="was written to while it was read"):
                list(source.rows)

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "2026-11-24.jsonl").mkdir()
        os.utime(tmp_path / "2026-11-24.jsonl", (self.LONG_AGO, self.LONG_AGO))
        with pytest.raises(UnreadableSource, match="is a folder"):
            self.read(tmp_path / "{time:%Y-%m-%d}.jsonl")

    def test_a_run_without_rows_is_no_error(self, tmp_path: Path) -> None:
        self.put(tmp_path / "2026-11-24.jsonl", "")
        assert self.read(tmp_path / "{time:%Y-%m-%d}.jsonl") == []
