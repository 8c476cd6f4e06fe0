"""What servers poll to see which batches have changed, at a cost that ignores the number of batches."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from models.db import Database
from models.states import BatchStatus
from producer.batches import changes
from producer.batches.batch_view import JobCounts
from producer.batches.changes import BatchState, read_open_and_newest, read_states
from tests.factories.batch_rows import insert_batch, update_batch
from tests.fake_worker import end_batch, write_results

NOW = datetime.now(UTC)


def test_open_batches_are_found_however_old_they_are(database: Database) -> None:
    old = insert_batch(database, 2, tenant="acme", created_at=NOW - timedelta(days=400))
    ended_long_ago = insert_batch(database, 1, created_at=NOW - timedelta(days=300))
    end_batch(database, ended_long_ago)
    newest = [insert_batch(database, 1, created_at=NOW) for _ in range(changes.MAX_NEWEST)]
    for batch_id in newest:
        end_batch(database, batch_id)
    write_results(database, old, [(0, {"label": "A"})])

    states = read_open_and_newest(database)

    assert set(states) == {old, *newest}
    assert states[old] == BatchState(old, "acme", BatchStatus.IN_PROGRESS, False, 0, 1, JobCounts(2, 1, 0, 0, 0))
    assert read_states(database, [old, "unknown"]) == {old: states[old]}


def test_batches_that_ended_recently_are_found_beside_open_ones(database: Database) -> None:
    is_open, ended, ended_before, other = (insert_batch(database, 1) for _ in range(4))
    for batch_id in (ended, ended_before, other):
        end_batch(database, batch_id)
    update_batch(database, ended_before, completed_at=NOW - timedelta(days=2))

    found = changes.find_open_or_ended_since(
        database, [is_open, ended, ended_before, "unknown"], NOW - timedelta(days=1)
    )

    assert found == {is_open, ended}


def test_reading_rows_is_a_change(database: Database) -> None:
    batch_id = insert_batch(database, 1, status=BatchStatus.VALIDATING)
    before = read_states(database, [batch_id])[batch_id]

    update_batch(database, batch_id, rows_read=20_000)

    after = read_states(database, [batch_id])[batch_id]
    assert after != before
    assert after.as_dict()["rows_read"] == 20_000


def test_batches_that_are_being_deleted_are_gone(database: Database) -> None:
    batch_id = insert_batch(database, 1)
    update_batch(database, batch_id, status=BatchStatus.DELETING)

    assert read_open_and_newest(database) == {}
    assert read_states(database, [batch_id]) == {}


def test_sqlite_reads_open_and_newest_batches_by_index(sqlite_url: str) -> None:
    with closing(Database(sqlite_url)) as database, database.read() as connection:
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {changes.SELECT_OPEN_AND_NEWEST}")).all()

    scans = [row.detail for row in plan if row.detail.startswith(("SCAN batches", "SEARCH batches"))]
    assert any("batches_open_of_tenant" in scan for scan in scans)
    assert any("batches_newest" in scan for scan in scans)
    assert not any("TEMP B-TREE" in row.detail for row in plan)
