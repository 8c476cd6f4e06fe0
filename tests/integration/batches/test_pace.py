"""A batch's pace counts working time only, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import insert

from models.db import Database
from models.states import BatchStatus
from models.tables.results import Attempt
from producer.batches import pace, views
from producer.batches.progress.progress_tracker import ProgressTracker
from tests import fake_worker
from tests.factories.batch_rows import FIRST_CREATED_AT, claimant_for, execute, insert_batch, set_claim_times
from worker.leasing.claiming import claims

GOOD = {"label": "POSITIVE", "score": 0.5}


def record_attempt(database: Database, batch_id: str, start: float, end: float) -> None:
    with database.write() as connection:
        times = {
            "claimed_at": FIRST_CREATED_AT + timedelta(seconds=start),
            "ended_at": FIRST_CREATED_AT + timedelta(seconds=end),
        }
        fields = {"slice_id": 1, "start_position": 0, "end_position": 4, "attempt": 1, "fencing_token": 1}
        connection.execute(insert(Attempt).values(batch_id=batch_id, outcome="released", **fields, **times))


@pytest.mark.parametrize(
    ("claim_times", "attempts", "seconds"),
    [
        ([(0, 2), (2, 4)], [], 4),  # one after the other
        ([(0, 4), (1, 3)], [], 4),  # side by side
        ([(0, 2), (100, 102)], [], 4),  # nobody worked in between
        ([(0, 2), (1, 3)], [(2, 10)], 10),  # a claim that gave its slice back
        ([(5, 6), (0, 1)], [(0, 0.5)], 2),
        ([(0, 0), (0, 0)], [], 0.001),  # two equal readings of a coarse clock
    ],
)
def test_working_time_is_the_union_of_claims(
    database: Database, claim_times: list[tuple[float, float]], attempts: list[tuple[float, float]], seconds: float
) -> None:
    batch_id = insert_batch(database, 8, status="completed", succeeded=8)
    set_claim_times(database, insert_batch(database, 4), 0, 1000)
    for number, (start, end) in enumerate(claim_times):
        set_claim_times(database, batch_id, start, end, number=number)
    for start, end in attempts:
        record_attempt(database, batch_id, start, end)

    batch = views.get_batch(database, batch_id)

    assert batch.working_seconds == pytest.approx(seconds, abs=0.0002)
    assert batch.jobs_per_second == pytest.approx(8 / seconds, rel=0.2)
    listed = {entry.id: entry.working_seconds for entry in views.list_batches(database, 10)}
    assert listed[batch_id] == batch.working_seconds


def test_a_slice_that_waited_until_its_batch_was_cancelled_did_not_work(database: Database) -> None:
    batch_id = insert_batch(database, 4, status="cancelled", cancelled=4)
    set_claim_times(database, batch_id, 0, 1000)
    record_attempt(database, batch_id, 0, 3)

    assert views.get_batch(database, batch_id).working_seconds == pytest.approx(3.0, abs=0.0002)


def test_there_is_no_pace_while_nobody_works(database: Database) -> None:
    batch_id = insert_batch(database, 8)
    claims.claim(database, claimant_for("worker-1"), 4, 4)
    fake_worker.write_results(database, batch_id, [(0, GOOD)])
    execute(database, f"UPDATE slices SET leased_at = {database.sql.seconds_from_now(-2)} WHERE state = 'leased'")
    tracker = ProgressTracker(database, batch_id)

    running = tracker.poll().batch
    begin, end = database.sql.seconds_from_now(-2), database.sql.seconds_from_now(-1)
    execute(database, f"UPDATE slices SET leased_at = {begin}, lease_expires_at = {end} WHERE state = 'leased'")
    expired = tracker.poll()

    assert running.is_running
    assert running.jobs_per_second is not None
    assert (expired.batch.is_running, expired.batch.jobs_per_second, expired.eta) == (False, None, None)
    assert expired.active_workers == ()
    assert expired.batch.working_seconds == pytest.approx(1.0, abs=0.5)  # until the lease expired
    assert views.get_batch(database, insert_batch(database, 4)).jobs_per_second is None


def test_the_remaining_time_counts_working_time(database: Database) -> None:
    batch_id = insert_batch(database, 40)
    claims.claim(database, claimant_for("worker-1"), 40, 4)
    tracker = ProgressTracker(database, batch_id)
    for place in range(20):
        begin = database.sql.seconds_from_now(-5 * place)  # far more than the test itself takes
        execute(database, f"UPDATE slices SET leased_at = {begin} WHERE state = 'leased'")
        fake_worker.write_results(database, batch_id, [(place, GOOD)])
        progress = tracker.poll()

    assert progress.batch.status is BatchStatus.IN_PROGRESS
    assert progress.eta is not None
    assert progress.eta.jobs_per_second == pytest.approx(0.2, rel=0.1)


def test_only_jobs_that_a_worker_claimed_count_for_the_pace(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = insert_batch(database, 8, status="completed")
    fake_worker.write_results(database, batch_id, [(0, GOOD), *((place, "empty_text") for place in range(1, 8))])
    execute(database, "UPDATE results SET slice_id = 1 WHERE position = 7")
    set_claim_times(database, batch_id, 0, 2)

    assert views.get_batch(database, batch_id).jobs_per_second == pytest.approx(1.0)  # the answer, and one failure
    # The first failure stands for all. The queries are built once, so here they are built anew.
    monkeypatch.setattr(pace, "MAX_FAILURES", 1)
    for name in ("_batch_query", "_one_batch_query"):
        monkeypatch.setattr(views, name, getattr(views, name).__wrapped__)
    assert views.get_batch(database, batch_id).jobs_per_second == pytest.approx(0.5)
