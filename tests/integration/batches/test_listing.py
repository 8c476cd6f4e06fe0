"""Lists of batches: filters, and cursors that reach every batch."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

import batchmill
from batchmill import Client, NotFound, UsageError
from models.db import Database
from models.dialects.columns import UtcDateTime
from models.states import BatchStatus
from producer.batches import views
from producer.batches.listing import BatchFilter
from producer.local import connection as connection_module
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch, update_batch

ROOT = Path(__file__).parents[3]
NAME = re.compile(r"`(\w+)`")
DAY = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = ["nightly-1", "nightly_2", "Nightly-3", "a*b", "100%", None]


@pytest.fixture
def ids(database: Database) -> list[str]:
    """Return six batches, the newest first; the two oldest were created at the same time."""
    ids = [
        insert_batch(
            database, 1, name=name, pipeline="p" if index % 2 else "q", created_at=DAY + timedelta(hours=index)
        )
        for index, name in enumerate(NAMES)
    ]
    update_batch(database, ids[1], created_at=DAY, status="cancelled")
    update_batch(database, ids[5], metadata_={"greeting": 'Grüße "a" b'})
    return [*ids[:1:-1], ids[1], ids[0]]


def run_ls(*options: str) -> Any:
    result = CliRunner().invoke(batchmill.cli, ["ls", "--json", *options])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("page_size", [1, 2, 3, 6, 7])
def test_cursors_reach_every_batch_once(
    ids: list[str], database: Database, monkeypatch: pytest.MonkeyPatch, page_size: int
) -> None:
    monkeypatch.setattr(connection_module, "PAGE_BATCHES", 2)
    listed: list[str] = []
    with Client(database.url) as client:
        while page := client.batches(page_size, after=listed[-1] if listed else None):
            listed += [batch.id for batch in page]
        assert [batch.id for batch in client.batches(None)] == ids
    command_page = run_ls("-n", str(page_size), "--after", ids[0])

    assert listed == ids
    assert [batch["id"] for batch in command_page["data"]] == ids[1 : page_size + 1]
    assert command_page["has_more"] == (page_size + 1 < len(ids))
    assert command_page["last_id"] == ids[min(page_size, 5)]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"status": "cancelled"}, [1]),
        ({"pipeline": "p"}, [5, 3, 1]),
        ({"pipeline": "p", "status": "in_progress"}, [5, 3]),
        ({"pipeline": "nope"}, []),
        ({"name": "nightly-1"}, [0]),
        ({"name": "nightly*"}, [1, 0]),
        ({"name": "*ightly-*"}, [2, 0]),
        ({"name": "nightly_*"}, [1]),
        ({"name": "a*b"}, [3]),
        ({"name": "100%"}, [4]),
        ({"name": "1*%"}, [4]),
        ({"name": "?[a-z]*"}, []),
        ({"name": "*"}, [4, 3, 2, 1, 0]),
        ({"search": "IGHTLY"}, [2, 1, 0]),
        ({"search": "%"}, [4]),
        ({"search": 'Grüße "a"'}, [5]),
        ({"search": "ightly-", "pipeline": "q"}, [2, 0]),
        ({"since": DAY + timedelta(hours=4)}, [5, 4]),
        ({"until": DAY + timedelta(hours=3)}, [2, 1, 0]),
        ({"since": DAY, "until": DAY + timedelta(seconds=1)}, [1, 0]),
    ],
    ids=str,
)
def test_filters(ids: list[str], database: Database, filters: dict[str, Any], numbers: list[int]) -> None:
    by_number = dict(zip([5, 4, 3, 2, 1, 0], ids, strict=True))
    options = [option for name, value in filters.items() for option in (f"--{name}", str(value))]
    with Client(database.url) as client:
        batches = client.batches(**filters)

    assert [batch.id for batch in batches] == [by_number[number] for number in numbers]
    assert [batch["id"] for batch in run_ls(*options)["data"]] == [batch.id for batch in batches]


@pytest.mark.parametrize("words", ["Ünïcode 3", "ünïcode", "ÜNÏCODE", "für Übung", "FÜR ÜBUNG"])
def test_letters_are_found_in_any_case(database: Database, words: str) -> None:
    named = insert_batch(database, 1, name="Ünïcode 3 für Übung")
    described = insert_batch(database, 1, metadata_={"note": "Ünïcode 3 für Übung"})
    written = insert_batch(database, 1)  # as `to_json` writes it, without escapes
    execute(
        database, "UPDATE batches SET metadata = :text WHERE id = :id", text='{"a":"Ünïcode 3 für Übung"}', id=written
    )
    insert_batch(
        database, 1, name="Unicode", metadata_={"note": "fur Ubung \ud800" if "sqlite" in database.url else ""}
    )

    found = views.list_batches(database, 10, BatchFilter(search=words))

    assert {batch.id for batch in found} == {named, described, written}


def test_ids_are_found_by_their_beginning_and_statuses_by_any(ids: list[str], database: Database) -> None:
    assert [batch["id"] for batch in run_ls("--search", ids[0])["data"]] == [ids[0]]
    assert [batch["id"] for batch in run_ls("--search", "batch_")["data"]] == ids
    assert [batch["id"] for batch in run_ls("--status", "cancelled", "--status", "failed")["data"]] == [ids[4]]


def test_times_by_the_databases_clock(database: Database) -> None:
    now = datetime.now(UTC)
    batch_id, today = insert_batch(database, 1, created_at=now), now.astimezone().date().isoformat()

    assert [batch["id"] for batch in run_ls("--since", "1h")["data"]] == [batch_id]
    assert [batch["id"] for batch in run_ls("--since", today, "--until", today)["data"]] == [batch_id]
    assert [batch["id"] for batch in run_ls("--until", f"{today} 23:59:59")["data"]] == [batch_id]
    assert run_ls("--until", "1h")["data"] == run_ls("--until", f"{today} 00:00")["data"] == []


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--after", "batch_nope"], 4, "there is no batch"),
        (["--since", "yesterday"], 2, "yesterday"),
        (["--since", "99999999d"], 2, "at most ten years"),
        (["--until", "2026-02-30"], 2, "is not a time"),
        (["--status", "open"], 2, "open"),
    ],
)
def test_an_impossible_list_is_refused(database: Database, options: list[str], code: int, words: str) -> None:
    result = CliRunner().invoke(batchmill.cli, ["ls", *options])

    assert result.exit_code == code
    assert words in result.stderr


def test_the_table_names_the_next_page(ids: list[str], database: Database) -> None:
    result = CliRunner().invoke(batchmill.cli, ["ls", "-n", "2"])

    assert f"--after {ids[1]}" in result.stderr
    assert "there are no such batches" in CliRunner().invoke(batchmill.cli, ["ls", "--name", "x"]).stderr
    with Client(database.url) as client, pytest.raises(NotFound):
        client.batches(after="batch_nope")


@pytest.mark.parametrize("status", list(BatchStatus))
def test_the_view_of_batches_says_what_the_batch_says(database: Database, status: BatchStatus) -> None:
    batch_id = insert_batch(database, 6, name="mine", metadata_={"team": "a"}, ingesting=True, reused=1)
    fake_worker.write_results(database, batch_id, [(2, {}), (0, "empty_text"), (1, {})])
    ended_at = {f"{status.value}_at": DAY} if status.has_ended else {}
    update_batch(database, batch_id, status=status.value, cancelled=1, expired=1, **ended_at)

    with database.read() as connection:
        row = connection.execute(text("SELECT * FROM batch_status").columns(ended_at=UtcDateTime)).one()
    batch = views.get_batch(database, batch_id)

    assert {name: getattr(row, name) for name in batch.counts.as_dict()} == batch.counts.as_dict()
    assert (row.batch_id, row.status, row.name, row.last_seq, row.reused) == (batch_id, status.value, "mine", 3, 1)
    assert bool(row.has_ended) is (status.has_ended or status is BatchStatus.DELETING)
    assert bool(row.ingesting) is batch.ingesting
    assert row.ended_at == (DAY if status.has_ended else None)


def test_the_view_of_batches_is_the_documented_one(database: Database) -> None:
    with database.read() as connection:
        names = list(connection.execute(text("SELECT * FROM batch_status")).keys())
    section = (ROOT / "docs/reference/output.md").read_text().split("## The view `batch_status`")[1].split("\n## ")[0]
    documented = [
        name for line in section.splitlines() if line.startswith("| `") for name in NAME.findall(line.split("|")[1])
    ]

    assert documented == names


def test_a_batch_deleted_between_two_pages_ends_no_list(
    ids: list[str], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PAGE_BATCHES", 1)
    list_batches = views.list_batches

    def list_and_delete(*args: Any) -> list[views.BatchView]:
        page = list_batches(*args)
        for view in page:
            for table, column in (("slices", "batch_id"), ("jobs", "batch_id"), ("batches", "id")):
                execute(database, f"DELETE FROM {table} WHERE {column} = :id", id=view.id)
        return page

    monkeypatch.setattr(views, "list_batches", list_and_delete)

    with Client(database.url) as client:
        assert [batch.id for batch in client.batches(None)] == ids


@pytest.mark.parametrize(
    "created_at", ["2026-03-01 00:00:00.123", "2026-03-01 00:00:00.123000", "2026-03-01 00:00:00.123456"]
)
def test_equal_times_are_paged_by_id_however_they_are_written(
    database: Database, monkeypatch: pytest.MonkeyPatch, created_at: str
) -> None:
    ids = [insert_batch(database, 1) for _ in range(4)]
    execute(database, f"UPDATE batches SET created_at = '{created_at}'")
    monkeypatch.setattr(connection_module, "PAGE_BATCHES", 1)

    with Client(database.url) as client:
        assert [batch.id for batch in client.batches(None)] == sorted(ids, reverse=True)


def test_several_statuses_mean_any_of_them(ids: list[str], client: Client, database: Database) -> None:
    update_batch(database, ids[0], status="failed")

    assert [batch.id for batch in client.batches(status=["failed", "cancelled"])] == [ids[0], ids[4]]
    assert [batch.id for batch in client.batches(status=[])] == ids
    with pytest.raises(UsageError, match="no batch status 'open'"):
        client.batches(status=["failed", "open"])


def test_texts_name_times(ids: list[str], database: Database) -> None:
    with Client(database.url) as client:
        assert [batch.id for batch in client.batches(since="2026-03-01T04:00Z", until="1h")] == ids[:2]


@pytest.mark.parametrize("filters", [{"status": "bogus"}, {"status": 5}, {"since": "yesterday"}, {"until": 5}], ids=str)
def test_a_filter_that_nothing_can_match_is_refused(database: Database, filters: dict[str, Any]) -> None:
    with Client(database.url) as client, pytest.raises(UsageError):
        client.batches(**filters)
