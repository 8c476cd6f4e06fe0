"""The order of claims as it lies in the index: nothing hides behind anything, and many small batches are one claim."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, insert, text, update

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.lifecycle import claim_order
from models.tables.batches import Batch, Slice
from tests.factories import batch_rows
from tests.factories.batch_rows import (
    PIPELINE,
    REVISION,
    claimant_for,
    execute,
    get_slices,
    get_unanswered_jobs,
    insert_batch,
    update_batch,
)
from tests.servers import wait_until
from worker.leasing import backlog
from worker.leasing.claiming import claims
from worker.leasing.claiming.claim_statements import MAX_SLICES
from worker.leasing.leases import Claimant, Lease
from worker.leasing.quarantine import must_run_alone
from worker.maintenance import resend_wakeups

SLICE = 4  # jobs in a slice, as insert_batch cuts them
MANY = 1000
SMALL_BATCHES = 2 * MAX_SLICES + 10


@contextmanager
def count_statements(database: Database) -> Iterator[list[str]]:
    """The statements that are sent within."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine, "before_cursor_execute", note)


def take(database: Database, room: int = MANY, claimant: Claimant | None = None, **how: Any) -> list[Lease]:
    return claims.claim(database, claimant or claimant_for(), room, SLICE, **how)


def quarantine(database: Database, batch_id: str) -> None:
    execute(database, "UPDATE slices SET crashes = 2 WHERE batch_id = :id", id=batch_id)


def insert_small_batches(database: Database, count: int, **columns: Any) -> list[str]:
    """Batches of one job, each younger than the one before."""
    ids = [f"small_{number:05}" for number in range(count)]
    values = {
        "pipeline": PIPELINE,
        "task": batch_rows.TASK,
        "model": batch_rows.MODEL,
        "revision": REVISION,
        "parameters": {},
        "metadata_": {},
        "status": "in_progress",
        "total": 1,
        **columns,
    }
    rows = [
        {**values, "id": batch_id, "created_at": batch_rows.FIRST_CREATED_AT + timedelta(seconds=number)}
        for number, batch_id in enumerate(ids)
    ]
    with database.write() as connection:
        for some in (rows[start : start + 500] for start in range(0, count, 500)):
            connection.execute(insert(Batch).values(some))
        insert_rows(connection, "jobs", ("batch_id", "position", "input"), ((each, 0, '{"text": "a"}') for each in ids))
        insert_rows(
            connection,
            "slices",
            ("batch_id", "start_position", "size", "state"),
            ((each, 0, 1, "queued") for each in ids),
        )
    return ids


class TestQuarantine:
    def test_of_many_batches_hides_no_ordinary_work(self, database: Database) -> None:
        for _ in range(40):
            quarantine(database, insert_batch(database, 1, priority=1))
        ordinary = insert_batch(database, 8)

        assert {lease.batch_id for lease in take(database)} == {ordinary}

    def test_is_not_hidden_by_ordinary_work(self, database: Database) -> None:
        quarantined = insert_batch(database, 1, priority=-5)
        quarantine(database, quarantined)
        for _ in range(40):
            insert_batch(database, 8)

        [only] = take(database, from_quarantine=True)

        assert only.batch_id == quarantined

    def test_that_is_put_off_does_not_wait(self, database: Database) -> None:
        quarantine(database, insert_batch(database, 1))
        later = datetime.now(UTC) + timedelta(hours=1)
        with database.write() as connection:
            connection.execute(update(Slice).values(available_at=later))

        assert claims.next_quarantined(database, claimant_for()) is None

    @pytest.mark.parametrize(("priority", "is_next"), [(1, True), (0, False), (-1, False)])
    def test_goes_first_by_priority(self, database: Database, priority: int, is_next: bool) -> None:
        quarantine(database, insert_batch(database, 1, priority=priority))
        insert_batch(database, 8)

        waiting = claims.next_quarantined(database, claimant_for())

        assert waiting is not None
        assert waiting.goes_first is is_next

    def test_goes_first_by_the_nearer_deadline(self, database: Database) -> None:
        soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
        quarantine(database, insert_batch(database, 1, expires_at=soon))
        insert_batch(database, 8, expires_at=later)
        insert_batch(database, 8)

        waiting = claims.next_quarantined(database, claimant_for())

        assert waiting is not None
        assert waiting.goes_first

    def test_goes_first_where_there_is_nothing_else(self, database: Database) -> None:
        assert claims.next_quarantined(database, claimant_for()) is None
        quarantine(database, insert_batch(database, 1))

        waiting = claims.next_quarantined(database, claimant_for())

        assert waiting is not None
        assert waiting.goes_first

    def test_has_waited_since_it_was_run_last(self, database: Database) -> None:
        insert_batch(database, 4)
        [lease] = take(database)
        with database.write() as connection:
            claims.release(connection, [lease])
            ago = {"leased_at": datetime.now(UTC) - timedelta(minutes=10)}
            connection.execute(update(Slice).values(crashes=2, **ago))

        waiting = claims.next_quarantined(database, claimant_for())

        assert waiting is not None
        assert 590 < waiting.waiting_seconds < 1200

    def test_is_what_the_indexes_say(self, database: Database) -> None:
        """The predicates of the two indexes part what `must_run_alone` parts."""
        insert_batch(database, 56 * SLICE)
        for number, row in enumerate(get_slices(database, insert_batch(database, 56 * SLICE))):
            execute(
                database,
                "UPDATE slices SET crashes = :crashes, lost_leases = :lost_leases WHERE id = :id",
                crashes=number // 8,
                lost_leases=number % 8,
                id=row.id,
            )

        found = {}
        for condition in (claim_order.QUEUED_ORDINARY, claim_order.QUEUED_QUARANTINED):
            with database.read() as connection:
                rows = connection.execute(text(f"SELECT crashes, lost_leases FROM slices WHERE {condition}")).all()
            found[condition] = {must_run_alone(row.crashes, row.lost_leases) for row in rows}

        assert found == {claim_order.QUEUED_ORDINARY: {False}, claim_order.QUEUED_QUARANTINED: {True}}


class TestOrder:
    def order(self, database: Database) -> list[str]:
        claimed = []
        while leases := take(database, room=1):
            claimed += [lease.batch_id for lease in leases]
        return claimed

    def test_follows_a_batch_that_is_given_another_priority(self, database: Database) -> None:
        first, second = insert_batch(database, 4), insert_batch(database, 4)

        update_batch(database, second, priority=3)

        assert self.order(database) == [second, first]

    def test_follows_a_batch_that_is_given_another_deadline(self, database: Database) -> None:
        first, second = insert_batch(database, 4), insert_batch(database, 4)

        update_batch(database, second, expires_at=datetime.now(UTC) + timedelta(hours=1))

        assert self.order(database) == [second, first]

    def test_counts_what_was_reused_as_not_served(self, database: Database) -> None:
        half_served = insert_batch(database, 8, succeeded=4)
        reused = insert_batch(database, 8, succeeded=8, reused=8, total=16)

        assert self.order(database) == [reused, reused, half_served, half_served]

    def test_goes_through_one_batch_before_the_next(self, database: Database) -> None:
        first, second = insert_batch(database, 12), insert_batch(database, 12)

        claimed = take(database, room=16)

        assert [lease.batch_id for lease in claimed] == [first] * 3 + [second]

    def test_begins_with_a_slice_that_was_given_back(self, database: Database) -> None:
        batch_id = insert_batch(database, 12)
        leases = take(database)
        with database.write() as connection:
            claims.release(connection, leases[1:2])

        assert [(lease.batch_id, lease.start_position) for lease in take(database)] == [(batch_id, 4)]


class TestManySmallBatches:
    def test_are_leased_by_few_statements(self, database: Database) -> None:
        ids = insert_small_batches(database, SMALL_BATCHES)
        claimed: list[list[str]] = []

        while True:
            with count_statements(database) as sent:
                leases = take(database, room=4096)
                jobs = get_unanswered_jobs(database, leases)
            if not leases:
                break
            assert len(sent) <= 12
            assert [job.lease for job in jobs] == leases
            claimed.append([lease.batch_id for lease in leases])

        assert [len(batch_ids) for batch_ids in claimed] == [MAX_SLICES, MAX_SLICES, 10]
        assert list(itertools.chain.from_iterable(claimed)) == ids, "the oldest first"

    def test_that_nobody_has_settled_are_settled_together(self, database: Database) -> None:
        insert_small_batches(database, 300, revision=None, model="made/unpinned")

        with count_statements(database) as sent:
            leases = take(database, room=4096)

        assert len(leases) == 300
        assert len(sent) <= 12
        with database.read() as connection:
            settled = connection.execute(text("SELECT DISTINCT model, revision FROM batches")).all()
        assert [tuple(row) for row in settled] == [(claimant_for().model, REVISION)]

    def test_of_another_revision_hide_nothing(self, database: Database) -> None:
        insert_small_batches(database, 700, revision="b" * 40, priority=1)
        own_id = insert_batch(database, 4)

        assert [lease.batch_id for lease in take(database)] == [own_id]
        assert {row.revision for row in backlog.select_claimable_work(database, {PIPELINE: ()})} == {"b" * 40}

    def test_do_not_make_a_claim_larger_than_its_room(self, database: Database) -> None:
        insert_small_batches(database, 20)
        insert_batch(database, 100, slice_size=50)

        assert sum(lease.size for lease in take(database, room=30)) == 20 + 50

    def test_out_with_workers_leave_nothing_to_ring_for(self, database: Database) -> None:
        insert_small_batches(database, 50)
        execute(database, "UPDATE batches SET in_progress_at = created_at")
        query = resend_wakeups.SELECT_PIPELINES_WITH_WORK.format(
            any_old=claim_order.any_queued_slice(
                resend_wakeups.IS_OLD_ENOUGH.format(now=database.sql.now, later=database.sql.now_plus_seconds)
            )
        )

        def pipelines() -> list[str]:
            with database.read() as connection:
                return list(connection.scalars(text(query), {"seconds": -2.0}))

        assert pipelines() == [PIPELINE]
        assert resend_wakeups._count_claimable_slices(database, PIPELINE) == 50

        take(database)

        assert pipelines() == []
        assert resend_wakeups._count_claimable_slices(database, PIPELINE) == 0
        assert backlog.select_claimable_work(database, {PIPELINE: ()}) == []


LOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def is_anyone_waiting(database: Database) -> bool:
    with database.read() as connection:
        return bool(connection.scalar(text(LOCKED)))


class TestStrays:
    def test_are_locked_in_the_order_in_which_everybody_locks(self, postgresql_url: str) -> None:
        """Whoever has the first slice can have the second, while the strays wait for the first."""
        database = Database(postgresql_url)
        for _ in range(2):
            insert_batch(database, 4)
        first, second = sorted(lease.slice_id for lease in take(database))
        # So that the table, and the index, have the second one before the first.
        execute(database, "UPDATE slices SET retries = 0 WHERE id = :id", id=first)
        released: list[int] = []

        def release() -> None:
            with database.write() as connection:
                released.append(claims.release_unknown_claims(connection, "worker-1", ()))

        with database.write() as connection:
            lock = text("SELECT id FROM slices WHERE id = :id FOR UPDATE NOWAIT")
            connection.execute(lock, {"id": first})
            releasing = threading.Thread(target=release)
            releasing.start()
            wait_until(lambda: is_anyone_waiting(database), "the strays to wait for the first slice")
            connection.execute(lock, {"id": second})
        releasing.join()

        assert released == [2]
        database.close()
