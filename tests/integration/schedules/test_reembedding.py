"""An output table has vectors of one model only: a new one embeds all rows again, and readers see old or new."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from models import vectors
from models.db import Database
from models.states import RunState
from producer.schedules.runs import finish
from producer.schedules.runs.output import output_table, stale_rows
from producer.schedules.runs.output.output_table import record_merge
from producer.submission import chunks
from tests.factories.schedules import ScheduleHarness, utc
from tests.servers import WAIT_TIMEOUT_SECONDS

OLD, NEW = "1" * 40, "2" * 40
SELECT_EMBEDDED = "SELECT id, text, embedding, revision, scheduled_at, embedding_key FROM embedded ORDER BY id"
Embed = Callable[[Mapping[str, Any]], "bytes | None"]


def embedder(first: float, dimensions: int = 3) -> Embed:
    """A model whose vectors begin with its own number and the length of the text."""
    return lambda job_input: vectors.from_numbers([first, len(job_input["text"]), *[0.5] * (dimensions - 2)])


def failing_embedder(first: float, start: str) -> Embed:
    """A model that fails for texts with this start."""
    embed = embedder(first)
    return lambda job_input: None if job_input["text"].startswith(start) else embed(job_input)


BESIDE, IN_SOURCE = "beside the results", "in the source"


@pytest.fixture
def place() -> str:
    """Where the table is; a test may override it."""
    return BESIDE


@pytest.fixture
def harness(place: str, database_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
    created = ScheduleHarness(database_url, tmp_path)
    query = "SELECT id, body, created_at FROM tickets WHERE created_at >= :since AND created_at < :until ORDER BY id"
    sources = {"tickets": {"url": created.tickets.url, "query": query}}
    created.settings = created.settings.model_copy(update={"sources": sources})
    created.use_pipeline(OLD)
    into = {"into_source": "tickets"} if place == IN_SOURCE else {}
    created.create_schedule(into="embedded", passthrough=["created_at"], **into)
    yield created
    created.close()


def table_query(harness: ScheduleHarness, statement: str) -> list[Any]:
    """Rows of the table, wherever it is."""
    if harness.runs()[-1].definition.get("into_source") is None:
        return harness.query(statement)
    with closing(sqlite3.connect(harness.tickets.path)) as connection:
        return connection.execute(statement).fetchall()


def change_table(harness: ScheduleHarness, statement: str) -> None:
    in_source = harness.runs()[-1].definition.get("into_source") is not None
    harness.tickets.execute(statement) if in_source else harness.execute(statement)


def embedded(harness: ScheduleHarness) -> dict[int, tuple[str, list[float] | None, str]]:
    """The text, vector and revision of each row."""
    rows = table_query(harness, "SELECT id, text, embedding, revision FROM embedded ORDER BY id")
    return {row[0]: (row[1], None if row[2] is None else numbers(row[2]), row[3]) for row in rows}


def numbers(vector: Any) -> list[float]:
    return vectors.to_numbers(vector) if isinstance(vector, bytes) else list(vector)


def play_two_nights(harness: ScheduleHarness) -> None:
    """Five tickets of two nights, all of the old model."""
    for number in range(3):
        harness.tickets.insert_ticket(utc("03-01 21:00"), f"ticket {'x' * number}")
    harness.run_schedule(utc("03-02 02:00"), embedder(1))
    for number in range(3, 5):
        harness.tickets.insert_ticket(utc("03-02 21:00"), f"ticket {'x' * number}")
    harness.run_schedule(utc("03-03 02:00"), embedder(1))


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_a_new_revision_embeds_all_rows_again_though_the_query_has_only_new_ones(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    assert {row[2] for row in embedded(harness).values()} == {OLD}
    harness.use_pipeline(NEW)
    harness.tickets.insert_ticket(utc("03-03 21:00"), "a new one")
    harness.tickets.execute("UPDATE tickets SET body = 'edited', created_at = '2026-03-03 21:30:00' WHERE id = 2")

    harness.tick(utc("03-04 02:00"))
    assert {row[2] for row in embedded(harness).values()} == {OLD}, "readable until the run ends"
    harness.answer_jobs(embedder(2))
    assert {row[2] for row in embedded(harness).values()} == {OLD}
    harness.tick(utc("03-04 02:05"))

    run = harness.runs()[-1]
    assert sorted(harness.input_ids(run)) == ["1", "2", "3", "4", "5", "6"]
    rows = embedded(harness)
    assert [row[0] for row in rows.values()] == [
        "ticket ",
        "edited",
        "ticket xx",
        "ticket xxx",
        "ticket xxxx",
        "a new one",
    ]
    assert all(row[1:] == ([2, len(row[0]), 0.5], NEW) for row in rows.values())
    created = table_query(harness, "SELECT created_at FROM embedded ORDER BY id")
    assert [row[0][:10] for row in created] == [
        "2026-03-01",
        "2026-03-03",
        "2026-03-01",
        *["2026-03-02"] * 2,
        "2026-03-03",
    ]
    harness.assert_consistent()


def test_the_night_after_reads_new_rows_only(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.run_schedule(utc("03-04 02:00"), embedder(2))
    harness.tickets.insert_ticket(utc("03-04 21:00"))
    harness.run_schedule(utc("03-05 02:00"), embedder(2))

    assert [len(harness.input_ids(run)) for run in harness.runs()] == [3, 2, 5, 1]
    assert len(embedded(harness)) == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 64},
        {"parameters": {"dimensions": 2}},
        {"parameters": {"pooling": "cls"}},
        {"parameters": {"prompt_name": "query"}},
        {"prompt": "query: {text}"},
    ],
    ids=lambda settings: str(*settings.values()),
)
def test_other_settings_embed_all_rows_again_too(harness: ScheduleHarness, settings: dict[str, Any]) -> None:
    play_two_nights(harness)
    harness.use_pipeline(OLD, **settings)
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert {row[1][0] for row in embedded(harness).values() if row[1]} == {2}
    assert len({row[0] for row in table_query(harness, "SELECT embedding_key FROM embedded")}) == 1


def test_rows_that_the_source_has_lost_are_embedded_again_too(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    harness.tickets.execute("DELETE FROM tickets")
    harness.use_pipeline(NEW)
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert {row[2] for row in embedded(harness).values()} == {NEW}
    assert len(embedded(harness)) == 5


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_other_dimensions_replace_the_old_ones(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.run_schedule(utc("03-04 02:00"), embedder(2, dimensions=5))

    assert {len(row[1] or []) for row in embedded(harness).values()} == {5}


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_a_vector_whose_row_fails_now_is_cleared(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    new = embedder(2)
    harness.run_schedule(utc("03-04 02:00"), lambda job: None if job["text"] == "ticket x" else new(job))

    assert harness.runs()[-1].state is RunState.COMPLETED
    assert {key: row[2] for key, row in embedded(harness).items()} == {1: NEW, 2: None, 3: NEW, 4: NEW, 5: NEW}
    assert embedded(harness)[2] == ("ticket x", None, None)


def test_a_run_that_fails_leaves_the_old_vectors_and_the_next_one_goes_on(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    before = table_query(harness, SELECT_EMBEDDED)
    harness.use_pipeline(NEW)
    harness.tick(utc("03-04 02:00"))
    harness.execute("DELETE FROM batches WHERE id = :id", id=harness.runs()[-1].batch_id)
    harness.tick(utc("03-04 02:05"))
    assert harness.runs()[-1].state is RunState.FAILED
    assert table_query(harness, SELECT_EMBEDDED) == before

    harness.run_schedule(utc("03-05 02:00"), embedder(2))

    assert {row[2] for row in embedded(harness).values()} == {NEW}


def test_a_backfill_does_not_mix_models(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    before = table_query(harness, SELECT_EMBEDDED)
    harness.use_pipeline(NEW)
    harness.backfill("03-02 02:00", now=utc("03-03 12:00"), include_completed=True)
    harness.tick(utc("03-03 12:00"))
    harness.tick(utc("03-03 12:05"))

    run = harness.runs()[0]
    assert run.state is RunState.FAILED
    assert "trigger the schedule: that runs it for now" in (run.error_message or "")
    assert table_query(harness, SELECT_EMBEDDED) == before

    harness.backfill("03-03 02:00", now=utc("03-03 13:00"), include_completed=True)
    harness.tick(utc("03-03 13:00"))
    harness.answer_jobs(embedder(2))
    harness.tick(utc("03-03 13:05"))
    assert {row[2] for row in embedded(harness).values()} == {NEW}


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_a_revision_that_nobody_knew_is_refused(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    before = table_query(harness, SELECT_EMBEDDED)
    harness.use_pipeline(NEW, is_pinned=False)
    harness.tickets.insert_ticket(utc("03-03 21:00"))
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    run = harness.runs()[-1]
    assert run.state is RunState.FAILED
    assert "the table embedded have vectors of another model" in (run.error_message or "")
    assert "this run did not read them" in (run.error_message or "")
    assert table_query(harness, SELECT_EMBEDDED) == before


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_failures_of_other_rows_do_not_let_a_run_clear_vectors(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    before = table_query(harness, SELECT_EMBEDDED)
    harness.use_pipeline(NEW, is_pinned=False)
    for number in range(8):
        harness.tickets.insert_ticket(utc("03-03 21:00"), f"{'bad' if number < 5 else 'good'} {number}")
    harness.run_schedule(utc("03-04 02:00"), failing_embedder(2, "bad"))

    assert harness.runs()[-1].state is RunState.FAILED
    assert table_query(harness, SELECT_EMBEDDED) == before


def test_an_older_run_that_ends_last_leaves_the_newer_vectors(harness: ScheduleHarness) -> None:
    harness.create_schedule("other", cron="0 3 * * *", into="embedded", passthrough=["created_at"])
    harness.tickets.insert_ticket(utc("03-01 21:00"), "bad")
    harness.tickets.insert_ticket(utc("03-01 21:00"), "good")
    harness.tick(utc("03-02 02:00"))
    harness.use_pipeline(NEW)
    harness.tickets.execute("DELETE FROM tickets WHERE body = 'good'")
    harness.tick(utc("03-02 03:00"))
    harness.answer_jobs(embedder(2))
    harness.tick(utc("03-02 03:05"))
    before = table_query(harness, SELECT_EMBEDDED)
    assert {row[2] for row in embedded(harness).values()} == {NEW}

    harness.use_pipeline(OLD)
    harness.answer_jobs(failing_embedder(1, "bad"))
    harness.tick(utc("03-02 03:10"))

    run = harness.runs()[-1]
    assert run.state is RunState.FAILED
    assert "from later runs" in (run.error_message or "")
    assert table_query(harness, SELECT_EMBEDDED) == before


def test_rows_that_another_run_wrote_meanwhile_are_left_to_the_next_one(harness: ScheduleHarness) -> None:
    harness.create_schedule("other", cron="0 3 * * *", into="embedded", passthrough=["created_at"])
    for body in ("kept", "deleted"):
        harness.tickets.insert_ticket(utc("03-01 21:00"), body)
    harness.tick(utc("03-02 02:00"))
    harness.use_pipeline(NEW)
    harness.tickets.execute("DELETE FROM tickets WHERE body = 'deleted'")
    harness.tick(utc("03-02 03:00"))
    harness.use_pipeline(OLD)
    harness.answer_jobs(embedder(1))
    harness.tick(utc("03-02 03:05"))
    before = table_query(harness, SELECT_EMBEDDED)

    harness.use_pipeline(NEW)
    harness.answer_jobs(embedder(2))
    harness.tick(utc("03-02 03:10"))
    run = harness.runs("other")[-1]
    assert (run.state, len(before)) == (RunState.FAILED, 2)
    assert "another run wrote them meanwhile" in (run.error_message or "")
    assert table_query(harness, SELECT_EMBEDDED) == before

    harness.run_schedule(utc("03-03 03:00"), embedder(2))
    assert {row[2] for row in embedded(harness).values()} == {NEW}


def test_a_table_without_its_inputs_is_refused(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    change_table(harness, "ALTER TABLE embedded DROP COLUMN text")
    harness.use_pipeline(NEW)
    harness.tick(utc("03-04 02:00"))
    harness.tick(utc("03-04 02:05"))

    assert "no column text to embed them again from" in (harness.runs()[-1].error_message or "")


def test_long_tables_are_read_in_pages(harness: ScheduleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_rows, "PAGE_ROWS", 2)
    monkeypatch.setattr(stale_rows, "CHUNK_CHARACTERS", 10)
    monkeypatch.setattr(stale_rows, "MAX_UNSEEN_ROWS", 1)
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert harness.input_ids(harness.runs()[-1]) == ["1", "2", "3", "4", "5"]
    assert {row[2] for row in embedded(harness).values()} == {NEW}


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
@pytest.mark.parametrize("dimensions", [3, 5])
def test_a_reader_sees_the_old_vectors_or_the_new_ones(
    harness: ScheduleHarness, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.tick(utc("03-04 02:00"))
    harness.answer_jobs(embedder(2, dimensions))
    seen: list[tuple[set[str], set[int]]] = []
    is_done, has_merged, has_read = threading.Event(), threading.Event(), threading.Event()
    last_point = "before_commit_run" if harness.runs()[-1].definition.get("into_source") is None else "after_merge"

    def read() -> None:
        while not is_done.is_set():
            rows = embedded(harness).values()
            seen.append(({row[2] for row in rows}, {len(row[1] or []) for row in rows}))
            if has_merged.is_set():
                has_read.set()

    def pause(point: str) -> None:
        if point == last_point:
            has_merged.set()
            assert has_read.wait(WAIT_TIMEOUT_SECONDS)

    reader = threading.Thread(target=read)
    reader.start()
    monkeypatch.setattr(finish, "failpoint", pause)
    monkeypatch.setattr(output_table, "record_merge", lambda *args: (record_merge(*args), pause("after_merge"))[0])
    try:
        harness.tick(utc("03-04 02:05"))
    finally:
        is_done.set()
        reader.join()
    seen.append(({row[2] for row in embedded(harness).values()}, {dimensions}))

    assert has_read.is_set()
    assert [*dict.fromkeys((*map(frozenset, pair),) for pair in seen)] == [
        (frozenset({OLD}), frozenset({3})),
        (frozenset({NEW}), frozenset({dimensions})),
    ]


@pytest.mark.parametrize("settings", [{"parameters": {"pooling": "cls"}}, {"max_length": 64}], ids=["cls", "length"])
def test_other_settings_are_seen_where_the_tokenizer_is_not_pinned(
    harness: ScheduleHarness, settings: dict[str, Any]
) -> None:
    harness.use_pipeline(OLD, tokenizer="org/tokenizer")
    play_two_nights(harness)
    harness.use_pipeline(OLD, tokenizer="org/tokenizer", **settings)
    harness.tickets.insert_ticket(utc("03-03 21:00"))
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert [row[1][0] for row in embedded(harness).values() if row[1]] == [2] * 6


def test_a_guard_that_is_added_does_not_embed_all_rows_again(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    guard = {"on": "input", "action": "flag", "words": ["forbidden"]}
    harness.use_pipeline(OLD, guards={"words": guard})
    harness.tickets.insert_ticket(utc("03-03 21:00"))
    harness.tick(utc("03-04 02:00"))

    assert harness.input_ids(harness.runs()[-1]) == ["6"]


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
@pytest.mark.parametrize(
    "change", ["ALTER TABLE embedded DROP COLUMN embedding_key", "UPDATE embedded SET embedding_key = NULL"]
)
def test_vectors_without_a_key_are_embedded_again(harness: ScheduleHarness, change: str) -> None:
    play_two_nights(harness)
    change_table(harness, change)
    harness.tickets.insert_ticket(utc("03-03 21:00"))
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert [row[1][0] for row in embedded(harness).values() if row[1]] == [2] * 6
    assert len(table_query(harness, "SELECT DISTINCT embedding_key FROM embedded WHERE embedding_key <> ''")) == 1


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_outputs_that_are_no_vectors_are_refused_before_they_are_computed(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    before = table_query(harness, SELECT_EMBEDDED)
    harness.use_pipeline(NEW, parameters={"pooling": "none"})
    harness.tickets.insert_ticket(utc("03-03 21:00"))
    harness.tick(utc("03-04 02:00"))
    harness.tick(utc("03-04 02:05"))

    run = harness.runs()[-1]
    assert (run.state, run.error_code) == (RunState.FAILED, "invalid_request")
    assert "has vectors in the column embedding, and this run has other outputs" in (run.error_message or "")
    assert harness.input_ids(run) == []
    assert table_query(harness, SELECT_EMBEDDED) == before


@pytest.mark.parametrize("kept", [["output_embedding"], ["embedding", "output_embedding"], ["Embedding"]], ids=str)
def test_columns_of_the_source_may_be_called_like_vectors(harness: ScheduleHarness, kept: list[str]) -> None:
    harness.execute("DELETE FROM schedules")
    columns = ", ".join(f"'x' AS \"{name}\"" for name in kept)
    query = f"SELECT id, body, {columns} FROM tickets WHERE created_at >= :since AND created_at < :until ORDER BY id"
    sources = {"tickets": {"url": harness.tickets.url, "query": query}}
    harness.settings = harness.settings.model_copy(update={"sources": sources})
    harness.create_schedule(into="embedded", passthrough=kept)
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert harness.runs()[-1].state is RunState.COMPLETED, harness.runs()[-1].error_message
    assert {row[0] for row in harness.query("SELECT revision FROM embedded")} == {NEW}
    [row] = harness.query("SELECT * FROM embedded WHERE id = 1")
    assert [row._mapping[name] for name in kept] == ["x"] * len(kept)


@pytest.mark.parametrize("place", [BESIDE, IN_SOURCE])
def test_a_cleared_row_is_embedded_by_the_next_run_that_can(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    for night in ("03-04 02:00", "03-05 02:00"):
        harness.run_schedule(utc(night), failing_embedder(2, "ticket xxxx"))
        assert embedded(harness)[5][1:] == (None, None)
    harness.run_schedule(utc("03-06 02:00"), embedder(2))
    harness.tick(utc("03-07 02:00"))

    runs = harness.runs()[2:]
    assert [len(harness.input_ids(run)) for run in runs] == [5, 1, 1, 0]
    assert {run.state for run in runs[:3]} == {RunState.COMPLETED}
    assert embedded(harness)[5][1:] == ([2, 11, 0.5], NEW)


def test_a_limit_of_failures_leaves_cleared_rows_to_the_next_model(harness: ScheduleHarness) -> None:
    harness.execute("DELETE FROM schedules")
    harness.create_schedule(into="embedded", max_failures="20%")
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.run_schedule(utc("03-04 02:00"), failing_embedder(2, "ticket xxxx"))
    harness.tickets.insert_ticket(utc("03-04 21:00"))
    harness.run_schedule(utc("03-05 02:00"), embedder(2))
    assert [len(harness.input_ids(run)) for run in harness.runs()[2:]] == [5, 1]

    harness.use_pipeline("3" * 40)
    harness.run_schedule(utc("03-06 02:00"), embedder(3))

    assert [row[1][0] for row in embedded(harness).values() if row[1]] == [3] * 6


def test_the_rows_of_the_table_do_not_count_as_rows_of_the_source(harness: ScheduleHarness) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.settings = harness.settings.model_copy(update={"max_source_rows": 3})
    harness.run_schedule(utc("03-04 02:00"), embedder(2))
    assert {row[2] for row in embedded(harness).values()} == {NEW}

    for _ in range(4):
        harness.tickets.insert_ticket(utc("03-04 21:00"))
    harness.tick(utc("03-05 02:00"))
    harness.tick(utc("03-05 02:05"))
    assert "the source has more than 3 rows" in (harness.runs()[-1].error_message or "")


@pytest.mark.parametrize("near", [1, 20_000])
def test_a_row_that_is_invalid_now_loses_its_vector(
    harness: ScheduleHarness, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_two_nights(harness)
    harness.use_pipeline(NEW)
    harness.tickets.execute("UPDATE tickets SET body = '', created_at = '2026-03-03 21:00:00' WHERE id = 2")
    for _ in range(3):
        harness.tickets.insert_ticket(utc("03-03 21:00"))
    monkeypatch.setattr(stale_rows, "MAX_UNSEEN_ROWS", near)
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 1)
    harness.run_schedule(utc("03-04 02:00"), embedder(2))

    assert sorted(harness.input_ids(harness.runs()[-1])) == [str(number) for number in range(1, 9)]
    assert embedded(harness)[2][1:] == (None, None)


class TestUnreadableTable:
    @pytest.fixture
    def harness(self, postgresql_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
        created = ScheduleHarness(postgresql_url, tmp_path)
        created.use_pipeline(OLD)
        yield created
        created.close()

    def test_a_table_that_the_role_may_not_read_fails_the_run(self, harness: ScheduleHarness) -> None:
        role = f"writer_{uuid4().hex[:8]}"
        url = make_url(harness.settings.database_url)
        sources = dict(harness.settings.sources)
        role_url = url.set(username=role, password="secret").render_as_string(hide_password=False)
        sources["tables"] = {"url": role_url, "query": "SELECT 1"}
        harness.settings = harness.settings.model_copy(update={"sources": sources})
        harness.create_schedule(into="embedded", into_source="tables")
        harness.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        try:
            harness.execute(
                "CREATE TABLE embedded (id bigint PRIMARY KEY, text text, embedding real[], "
                "embedding_key text, revision text, scheduled_at timestamptz)"
            )
            harness.execute(f"GRANT INSERT, UPDATE ON embedded TO {role}")
            harness.tick(utc("03-02 02:00"))
            harness.tick(utc("03-02 02:05"))
        finally:
            harness.execute(f"DROP OWNED BY {role}")
            harness.execute(f"DROP ROLE {role}")

        run = harness.runs()[-1]
        assert run.state is RunState.FAILED
        assert "the table embedded can't be read" in (run.error_message or "")
        assert "permission denied" in (run.error_message or "")


class TestPgvector:
    @pytest.fixture
    def harness(self, pgvector_database: Database, postgresql_url: str, tmp_path: Path) -> Iterator[ScheduleHarness]:
        created = ScheduleHarness(postgresql_url, tmp_path)
        created.execute("CREATE EXTENSION vector")
        created.use_pipeline(OLD)
        created.create_schedule(into="embedded")
        play_two_nights(created)
        created.use_pipeline(NEW)
        yield created
        created.close()

    def test_other_dimensions_change_the_column_and_keep_its_index(self, harness: ScheduleHarness) -> None:
        harness.execute("CREATE INDEX nearest ON embedded USING hnsw (embedding vector_cosine_ops)")
        harness.run_schedule(utc("03-04 02:00"), embedder(2, dimensions=5))

        nearest = harness.query("SELECT id FROM embedded ORDER BY embedding <=> '[2, 11, 0.5, 0.5, 0.5]' LIMIT 1")
        definition = harness.query("SELECT indexdef FROM pg_indexes WHERE indexname = 'nearest'")
        types = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'embedding' AND attrelid = "
        assert nearest == [(5,)]
        assert "hnsw (embedding vector_cosine_ops)" in definition[0][0]
        assert harness.query(types + "'embedded'::regclass") == [("vector(5)",)]

    def test_what_needs_the_old_dimensions_is_named_and_nothing_changes(self, harness: ScheduleHarness) -> None:
        harness.execute("CREATE VIEW reader AS SELECT embedding FROM embedded")
        before = harness.query(SELECT_EMBEDDED)
        harness.run_schedule(utc("03-04 02:00"), embedder(2, dimensions=5))

        message = harness.runs()[-1].error_message or ""
        assert "can't take vectors of 5 numbers: cannot alter type of a column used by a view" in message
        assert "drop what needs the old ones" in message
        assert harness.query(SELECT_EMBEDDED) == before

    def test_equal_dimensions_need_no_other_column(self, harness: ScheduleHarness) -> None:
        harness.execute("CREATE VIEW reader AS SELECT embedding FROM embedded")
        harness.run_schedule(utc("03-04 02:00"), embedder(2))

        assert harness.query("SELECT DISTINCT revision FROM embedded") == [(NEW,)]
