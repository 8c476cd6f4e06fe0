"""The table that a schedule's `into` names: typed, by id, whole or not at all, on both databases and between them."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, make_url, text

from models import tasks, vectors
from models.db import Database
from models.dialects.columns import Document, Vector
from models.errors import Unreachable, UsageError
from producer.readers.sql.sql_sources import SqlSource
from producer.results import pages, tabular
from producer.results.result_row import ResultRow
from producer.results.tables import user_table
from producer.results.tabular import ColumnType, TabularLayout
from producer.schedules.runs.output import output_table
from producer.schedules.runs.output.output_table import OutputTable
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch
from tests.factories.result_rows import result_row, vector_row
from tests.servers import WAIT_TIMEOUT_SECONDS, PostgresDatabases
from tests.threads import run_concurrently

FIRST = datetime(2026, 3, 1, 1, tzinfo=UTC)
SECOND = FIRST + timedelta(days=1)
UNWRITABLE = r"labels can't be written: .*; give its role the right to, or name another"
LABELS = TabularLayout.from_example(["text"], {"label": "x", "score": 1.0})


def good(label: str, score: float = 0.5) -> dict[str, Any]:
    return {"label": label, "score": score}


@pytest.fixture(params=["sqlite", "postgresql"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that is not ours, with nothing in it."""
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
            connection.execute("CREATE TABLE tickets (id INTEGER)")
        with output_table.open_source_database(query(f"sqlite:///{tmp_path / 'shop.db'}")) as database:
            yield database
        return
    server: PostgresDatabases = request.getfixturevalue("postgres_server")
    name = f"shop_{uuid.uuid4().hex[:12]}"
    with output_table.open_source_database(query(server.create_database(name))) as database:
        yield database
    server.drop_database(name)


def query(url: str) -> SqlSource:
    return SqlSource(name="shop", url=url, query="SELECT 1")


def batch_with_results(database: Database, *landed: tuple[int, Any], meta: str | None = None) -> str:
    """A batch whose job at position N has the id `t-N`, and these results."""
    batch_id = insert_batch(database, 4)
    execute(database, "UPDATE jobs SET custom_id = 't-' || position WHERE batch_id = :id", id=batch_id)
    if meta:
        cast = "CAST(:meta AS jsonb)" if database.engine.dialect.name == "postgresql" else ":meta"
        execute(database, f"UPDATE jobs SET passthrough = {cast} WHERE batch_id = :id", id=batch_id, meta=meta)
    fake_worker.write_results(database, batch_id, landed)
    return batch_id


def merge(database: Database, batch_id: str, scheduled_at: datetime = FIRST) -> int:
    columns = tabular.layout_for_batch(database, batch_id, tasks.find_spec("sentiment-analysis"))
    return put(database, pages.iter_by_position(database, batch_id), columns, scheduled_at)


def put(
    database: Database,
    found: Iterable[ResultRow],
    columns: TabularLayout = LABELS,
    scheduled_at: datetime = FIRST,
    *,
    marked: bool = False,
    id_type: ColumnType = ColumnType.TEXT,
    before_commit: Callable[[], object] = lambda: None,
) -> int:
    with OutputTable("labels", columns, scheduled_at, id_type).stage(database, found) as staged:
        if marked:
            staged.merge_once("nightly", "batch_1")
            return staged.row_count
        with staged.transaction() as connection:
            staged.merge(connection)
            before_commit()
        return staged.row_count


def rows(database: Database, name: str = "labels") -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(text(f"SELECT * FROM {name} ORDER BY id")))


def test_a_row_for_each_id_with_typed_columns(database: Database) -> None:
    batch_id = batch_with_results(database, (1, good("NEGATIVE", 0.75)), (0, good("POSITIVE")), (2, "text_too_long"))

    assert merge(database, batch_id) == 2

    [first, second] = rows(database)
    assert (first.id, first.text, first.label, first.score) == ("t-0", "text 0", "POSITIVE", 0.5)
    assert (second.id, second.truncated, second.model, second.batch_id) == ("t-1", False, "abc", batch_id)
    with database.read() as connection:
        columns = {result["name"]: result["type"].python_type for result in inspect(connection).get_columns("labels")}
        assert (
            connection.scalar(text("SELECT count(*) FROM labels WHERE score > 0.6 AND scheduled_at IS NOT NULL")) == 1
        )
    assert list(columns) == [
        "id",
        "text",
        "text_pair",
        "label",
        "score",
        "truncated",
        "model",
        "revision",
        "scheduled_at",
        "batch_id",
        "finished_at",
        "windows",
        "guards",
    ]
    assert (columns["score"], columns["truncated"], columns["scheduled_at"]) == (float, bool, datetime)


def test_verdicts_and_windows_are_columns_that_an_older_table_gets(database: Database) -> None:
    batch_id = batch_with_results(database, (0, good("POSITIVE")), (1, good("NEGATIVE")))
    merge(database, batch_id)
    execute(database, "ALTER TABLE labels DROP COLUMN windows")
    execute(database, "ALTER TABLE labels DROP COLUMN guards")
    execute(database, """UPDATE results SET windows = 2, guards = '[{"guard": "pii"}]' WHERE position = 1""")

    merge(database, batch_id, SECOND)

    with database.read() as connection:
        query = text("SELECT windows, guards FROM labels ORDER BY id").columns(guards=Document)
        assert list(connection.execute(query)) == [(None, None), (2, [{"guard": "pii"}])]


def test_a_column_of_the_user_s_own_with_such_a_name_is_to_be_renamed(database: Database) -> None:
    batch_id = batch_with_results(database, (0, good("POSITIVE")))
    layout = TabularLayout(("text",), ("windows",), LABELS.output_columns)
    put(database, pages.iter_by_position(database, batch_id), layout)
    execute(database, "ALTER TABLE labels DROP COLUMN windows")
    execute(database, "ALTER TABLE labels RENAME COLUMN meta_windows TO windows")

    with pytest.raises(UsageError, match="rename a column windows of your own to meta_windows"):
        put(database, pages.iter_by_position(database, batch_id), layout, SECOND)


UUIDS = [f"7d444840-9dc0-11d1-b245-5ffdce74fad{number}" for number in range(2)]


@pytest.mark.parametrize(
    ("id_type", "ids", "values"),
    [
        (ColumnType.INTEGER, ["7", "-12"], {7, -12}),
        (ColumnType.UUID, UUIDS, {*UUIDS}),
        (ColumnType.TEXT, ["7", "007"], {"7", "007"}),
    ],
)
def test_ids_have_the_source_s_type(database: Database, id_type: ColumnType, ids: list[str], values: set[Any]) -> None:
    for label in ("OLD", "NEW"):
        results = [result_row(custom_id=custom_id, output=good(label)) for custom_id in ids]
        put(database, results, id_type=id_type)

    assert {row.id if isinstance(row.id, int) else str(row.id) for row in rows(database)} == values
    assert {row.label for row in rows(database)} == {"NEW"}


def test_a_table_with_ids_of_text_keeps_them(database: Database) -> None:
    put(database, [result_row(custom_id="7", output=good("OLD"))])
    put(database, [result_row(custom_id="7", output=good("NEW"))], id_type=ColumnType.INTEGER)

    assert [(row.id, row.label) for row in rows(database)] == [("7", "NEW")]


def test_ids_of_text_do_not_fit_a_table_of_integers(database: Database) -> None:
    put(database, [result_row(custom_id="7", output=good("OLD"))], id_type=ColumnType.INTEGER)

    with pytest.raises(UsageError, match=r"id in the table labels is BIGINT, and in these results TEXT; name another"):
        put(database, [result_row(custom_id="seven", output=good("NEW"))])


def test_the_next_run_renews_what_succeeded_and_keeps_the_rest(database: Database) -> None:
    merge(database, batch_with_results(database, (0, good("OLD")), (1, good("OLD")), (2, good("OLD"))))

    merge(database, batch_with_results(database, (0, good("NEW")), (1, "text_too_long"), (3, good("NEW"))), SECOND)

    assert [(result.id, result.label) for result in rows(database)] == [
        ("t-0", "NEW"),
        ("t-1", "OLD"),
        ("t-2", "OLD"),
        ("t-3", "NEW"),
    ]
    assert [result.scheduled_at == rows(database)[0].scheduled_at for result in rows(database)] == [
        True,
        False,
        False,
        True,
    ]


def test_an_older_run_overwrites_nothing_and_the_same_run_again_does(database: Database) -> None:
    merge(database, batch_with_results(database, (0, good("SECOND"))), SECOND)
    merge(database, batch_with_results(database, (0, good("FIRST")), (1, good("FIRST"))), FIRST)
    assert [result.label for result in rows(database)] == ["SECOND", "FIRST"]

    again = batch_with_results(database, (0, good("AGAIN")))
    merge(database, again, SECOND)
    once = rows(database)
    merge(database, again, SECOND)

    assert [result.label for result in once] == ["AGAIN", "FIRST"]
    assert rows(database) == once


def test_a_run_without_news_leaves_the_table_alone(database: Database) -> None:
    merge(database, batch_with_results(database, (0, good("OLD"))))
    previous = rows(database)

    assert merge(database, batch_with_results(database, (0, "text_too_long")), SECOND) == 0

    assert rows(database) == previous, "no other column either"


def test_the_merge_and_what_the_caller_marks_are_one(database: Database) -> None:
    batch_id = batch_with_results(database, (0, good("POSITIVE")))
    with OutputTable("labels", LABELS, FIRST).stage(database, pages.iter_by_position(database, batch_id)) as staged:
        with suppress(KeyboardInterrupt), staged.transaction() as connection:
            staged.merge(connection)
            raise KeyboardInterrupt
        assert not inspect(database.engine).has_table("labels"), "rolled back with its table"

        with staged.transaction() as connection:
            connection.execute(text("UPDATE batches SET name = 'marked' WHERE id = :id"), {"id": batch_id})
            staged.merge(connection)

    with database.read() as connection:
        query = "SELECT count(*) FROM labels JOIN batches b ON b.id = labels.batch_id WHERE b.name = 'marked'"
        assert connection.scalar(text(query)) == 1


def test_while_it_gathers_nobody_waits(database: Database) -> None:
    batch_id, other = (
        batch_with_results(database, (0, good("POSITIVE")), (1, good("POSITIVE"))),
        insert_batch(database, 4),
    )

    def meanwhile() -> Iterator[ResultRow]:
        for result in pages.iter_by_position(database, batch_id):
            fake_worker.write_results(database, other, [(result.position, good("POSITIVE"))])
            yield result

    with OutputTable("labels", LABELS, FIRST).stage(database, meanwhile()) as staged:
        fake_worker.write_results(database, other, [(3, good("POSITIVE"))])

    assert staged.row_count == 2


class Reader:
    """Reads the table again and again in a thread of its own, and keeps every picture of it."""

    def __init__(self, database: Database, count: str) -> None:
        self.seen: set[tuple[Any, ...]] = set()
        self._database, self._count = database, count
        self._stop, self._looked = threading.Event(), threading.Condition()
        self._looks = 0
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_TIMEOUT_SECONDS)

    def has_looked(self) -> None:
        """Wait until it has begun and ended a look that began after this call."""
        with self._looked:
            enough = self._looks + 2
            assert self._looked.wait_for(lambda: self._looks >= enough, WAIT_TIMEOUT_SECONDS)

    def _read(self) -> None:
        while not self._stop.is_set():
            with self._database.read() as connection:
                self.seen.add(tuple(connection.execute(text(self._count)).one()))
            with self._looked:
                self._looks += 1
                self._looked.notify_all()


def test_a_reader_never_sees_half_a_run(database: Database, database_url: str) -> None:
    def rows_of(label: str) -> Iterator[ResultRow]:
        return (result_row(place, custom_id=f"t-{place}", output=good(label)) for place in range(500))

    put(database, rows_of("run 0"))
    count = "SELECT count(*), count(DISTINCT label), count(DISTINCT scheduled_at) FROM labels"
    readers = Database(database_url)
    with Reader(readers, count) as reader:
        for number in range(1, 4):
            scheduled_at = FIRST + timedelta(days=number)
            put(database, rows_of(f"run {number}"), scheduled_at=scheduled_at, before_commit=reader.has_looked)
            reader.has_looked()
    readers.close()

    assert reader.seen == {(500, 1, 1)}


def test_a_column_more_is_added_and_none_is_dropped(database: Database) -> None:
    merge(database, batch_with_results(database, (0, good("OLD")), (1, good("OLD")), meta='{"gone": "x"}'))
    execute(database, "ALTER TABLE labels ADD COLUMN checked_by text")
    execute(database, "UPDATE labels SET checked_by = 'Ada' WHERE id = 't-0'")

    merge(database, batch_with_results(database, (0, good("NEW")), meta='{"region": "EU"}'), SECOND)

    assert [(result.label, result.region, result.gone, result.checked_by) for result in rows(database)] == [
        ("NEW", "EU", "x", "Ada"),
        ("OLD", None, "x", None),
    ]


def test_a_column_of_another_type_is_refused_and_nothing_changed(database: Database) -> None:
    merge(database, batch_with_results(database, (0, good("OLD"))))
    batch_id = batch_with_results(database, (0, {"label": 7, "score": 0.5, "new": "x"}))

    with pytest.raises(UsageError, match=r"label in the table labels is TEXT, .* BIGINT; name another table with into"):
        merge(database, batch_id, SECOND)

    assert [result.label for result in rows(database)] == ["OLD"]
    assert not hasattr(rows(database)[0], "new")


@pytest.mark.parametrize(
    "created",
    [
        "CREATE TABLE labels (id text PRIMARY KEY, text text)",
        "CREATE TABLE labels (id text, scheduled_at timestamp)",
        "CREATE TABLE labels (id integer PRIMARY KEY, mine text)",
    ],
)
def test_somebody_else_s_table_is_left_alone(database: Database, created: str) -> None:
    execute(database, created)

    with pytest.raises(UsageError, match="labels is not one that schedules write; name another with into"):
        merge(database, batch_with_results(database, (0, good("NEW"))))

    assert rows(database) == []


def test_a_constraint_that_somebody_added_is_named(database: Database) -> None:
    merge(database, batch_with_results(database, (0, good("OLD"))))
    execute(database, "CREATE UNIQUE INDEX one_of_each ON labels (label)")

    with pytest.raises(UsageError, match=r"labels does not take these rows: .*(one_of_each|labels\.label)"):
        merge(database, batch_with_results(database, (1, good("OLD"))), SECOND)


def test_outputs_of_two_kinds_are_refused(database: Database) -> None:
    two = [result_row(custom_id="t-0"), result_row(1, custom_id="t-1", output=[{"label": "a", "score": 0.5}] * 2)]

    with pytest.raises(UsageError, match=r"position 1 has other fields than the first; .* leave into out"):
        put(database, two)


def test_rows_without_an_id_are_refused_and_failed_ones_need_none(database: Database) -> None:
    batch_id = insert_batch(database, 2)
    fake_worker.write_results(database, batch_id, [(1, "text_too_long")])
    assert merge(database, batch_id) == 0

    fake_worker.write_results(database, batch_id, [(0, good("POSITIVE"))])
    with pytest.raises(UsageError, match=r"position 0 has no id .* name the column that has it: id"):
        merge(database, batch_id)


@pytest.mark.parametrize("name", ["a%b", ":a", 'a"b', "a b", "select", "it's"])
def test_columns_may_be_called_anything(database: Database, name: str) -> None:
    columns = TabularLayout.from_example(["text"], good("x"), passthrough=[name])
    for scheduled_at in (FIRST, SECOND):
        put(database, [result_row(custom_id="t-0", passthrough={name: f"{scheduled_at:%d}"})], columns, scheduled_at)

    [result] = rows(database)
    assert result._mapping[name] == "02"
    assert result.id == "t-0"


def test_an_input_of_the_row_s_own_called_id_gets_another_name(database: Database) -> None:
    columns = TabularLayout.from_example(["text"], {"scheduled_at": "x", "label": "y"}, passthrough=["id"])

    assert [name for name, _ in OutputTable("labels", columns, FIRST).schema.columns][:5] == [
        "id",
        "text",
        "meta_id",
        "output_scheduled_at",
        "label",
    ]


def test_into_another_database_with_a_mark(database: Database, theirs: Database) -> None:
    batch_id = batch_with_results(database, (0, good("POSITIVE")), (1, "text_too_long"))
    assert not _is_left(theirs, "nightly", FIRST, batch_id)

    for _ in range(2):
        with OutputTable("labels", LABELS, FIRST).stage(theirs, pages.iter_by_position(database, batch_id)) as staged:
            staged.merge_once("nightly", batch_id)

    assert [(result.id, result.label, result.batch_id) for result in rows(theirs)] == [("t-0", "POSITIVE", batch_id)]
    assert _is_left(theirs, "nightly", FIRST, batch_id)
    assert not _is_left(theirs, "nightly", FIRST, "batch_again")
    assert not _is_left(theirs, "nightly", SECOND, batch_id)
    with theirs.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM batchmill_merged_runs")) == 1


def test_the_settings_in_somebody_else_s_sqlite_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE tickets (id INTEGER)")
    with output_table.open_source_database(query(f"sqlite:///{path}")) as theirs:
        put(theirs, [result_row(custom_id="t-0")], marked=True)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with (
        output_table.open_source_database(query(f"sqlite:///{tmp_path / 'gone.db'}")) as theirs,
        pytest.raises(Unreachable),
    ):
        put(theirs, [result_row(custom_id="t-0")], marked=True)

    assert not (tmp_path / "gone.db").exists()


@pytest.mark.parametrize(
    ("kind", "url"), [("sqlite", "?mode=ro"), ("postgresql", "?options=-c%20default_transaction_read_only%3Don")]
)
def test_a_database_that_is_read_only(kind: str, url: str, request: pytest.FixtureRequest) -> None:
    address: str = request.getfixturevalue(f"{kind}_url")
    with output_table.open_source_database(query(address + url)) as theirs, pytest.raises(UsageError, match=UNWRITABLE):
        put(theirs, [result_row(custom_id="t-0")], marked=True)


def test_a_role_without_the_right_to_write(postgresql_url: str) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    url = make_url(postgresql_url).set(username=role, password="secret").render_as_string(hide_password=False)
    with closing(Database(postgresql_url)) as owner:
        execute(owner, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        try:
            with output_table.open_source_database(query(url)) as theirs, pytest.raises(UsageError, match=UNWRITABLE):
                put(theirs, [result_row(custom_id="t-0")], marked=True)
        finally:
            execute(owner, f"DROP ROLE {role}")


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from models.db import Database
from producer.schedules.runs.output.output_table import OutputTable
from producer.results.tabular import ColumnType, TabularLayout
from tests.factories.result_rows import result_row, vector_row

url, step = sys.argv[1:]
rows = [result_row(place, custom_id=f"t-{place}", output={"label": "NEW", "score": 1.0}) for place in range(3)]
table = OutputTable("labels", TabularLayout.from_example(["text"], rows[0].output), datetime(2026, 3, 2, 1, tzinfo=UTC))
with table.stage(Database(url), rows) as staged:
    if step == "staged":
        os.kill(os.getpid(), signal.SIGKILL)
    with staged.transaction() as connection:
        staged.merge(connection)
        if step == "merged":
            os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", ["staged", "merged", "committed"])
def test_killed_at_any_step_nothing_is_half(database: Database, database_url: str, step: str) -> None:
    merge(database, batch_with_results(database, (0, good("OLD")), (3, good("OLD"))))

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, database_url, step], env={**os.environ}, timeout=WAIT_TIMEOUT_SECONDS
    )

    assert killed.returncode == -signal.SIGKILL
    labels = [result.label for result in rows(database)]
    assert labels == (["NEW", "NEW", "NEW", "OLD"] if step == "committed" else ["OLD", "OLD"])
    merge(database, batch_with_results(database, (0, good("LAST"))), SECOND + timedelta(days=1))
    assert rows(database)[0].label == "LAST"


def test_two_make_the_table_at_once(database: Database) -> None:
    run_concurrently(
        *(lambda place=place: put(database, [result_row(place, custom_id=f"t-{place}")]) for place in range(4))
    )

    assert [result.id for result in rows(database)] == ["t-0", "t-1", "t-2", "t-3"]


def _is_left(theirs: Database, schedule: str, scheduled_at: datetime, batch_id: str) -> bool:
    with theirs.read() as connection:
        return output_table.is_merged(connection, schedule, scheduled_at, batch_id)


def test_the_table_of_merged_runs_is_no_output_table() -> None:
    with pytest.raises(UsageError, match="is reserved"):
        user_table.check_table_name(output_table.MERGED_RUNS.name)


def embedded(database: Database, *numbers: Sequence[float]) -> str:
    """A batch whose results are these vectors."""
    return batch_with_results(database, *enumerate(map(vectors.from_numbers, numbers)))


def test_vectors_are_renewed(database: Database) -> None:
    merge(database, embedded(database, [1.0, 0.5], [0.25, 2.0]))

    merge(database, embedded(database, [3.0, 0.1]), SECOND)

    with database.read() as connection:
        query = text("SELECT id, embedding FROM labels ORDER BY id").columns(embedding=Vector)
        assert list(connection.execute(query)) == [
            ("t-0", vectors.from_numbers([3.0, 0.1])),
            ("t-1", vectors.from_numbers([0.25, 2.0])),
        ]


def test_vectors_with_other_dimensions_are_refused(database: Database) -> None:
    merge(database, embedded(database, [1.0, 0.5]))

    message = r"embedding in the table labels is .* of 2 numbers, and in these results .* of 3 numbers; name another"
    with pytest.raises(UsageError, match=message):
        merge(database, embedded(database, [1.0, 0.5, 2.0]), SECOND)


@pytest.mark.parametrize("id_type", [ColumnType.UUID, ColumnType.INTEGER, ColumnType.TEXT])
def test_rows_with_vectors_have_ids_of_each_type(database: Database, id_type: ColumnType) -> None:
    layout = TabularLayout.for_vectors(["text"], 2)
    custom_id = str(uuid.UUID(int=7)) if id_type is ColumnType.UUID else "7"

    put(database, [vector_row(0, [1.0, 0.5], custom_id=custom_id, guards=[{"guard": "pii"}])], layout, id_type=id_type)

    [row] = rows(database)
    assert str(row.id) == custom_id


def test_pgvector_in_another_database(sqlite_url: str, postgresql_url: str) -> None:
    layout = TabularLayout.for_vectors(["text"], 2)
    with closing(Database(sqlite_url)) as ours, output_table.open_source_database(query(postgresql_url)) as theirs:
        execute(theirs, "CREATE SCHEMA extensions")
        execute(theirs, "CREATE EXTENSION vector SCHEMA extensions")
        put(theirs, pages.iter_by_position(ours, embedded(ours, [1.0, 0.5])), layout, marked=True)
        execute(theirs, "CREATE INDEX ON labels USING hnsw (embedding extensions.vector_cosine_ops)")

        put(theirs, pages.iter_by_position(ours, embedded(ours, [3.0, 0.5])), layout, SECOND, marked=True)

        with theirs.read() as connection:
            [row] = connection.execute(text("SELECT pg_typeof(embedding), CAST(embedding AS text) FROM labels"))
        assert tuple(row) == ("extensions.vector", "[3,0.5]")
