"""Claims on both databases: who gets which slice, for how long, and under which fence."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from models.db import Database
from models.states import AttemptOutcome, JobOutcome
from models.tables.batches import Slice
from models.tables.results import Result
from tests.factories import batch_rows
from tests.factories.batch_rows import (
    REVISION,
    assert_consistent,
    claimant_for,
    expire_leases,
    get_slice,
    get_slices,
    get_unanswered_jobs,
    insert_batch,
    update_batch,
)
from tests.threads import run_concurrently
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import Claimant, Lease, SliceRange

SLICE = 4  # jobs in a slice, as insert_batch cuts them
MANY = 1000
OTHER_REVISION = "b" * 40


def take(database: Database, room: int = MANY, who: Claimant | None = None, **options: Any) -> list[Lease]:
    return claims.claim(database, who or claimant_for(), room, SLICE, **options)


def renew(database: Database, leases: list[Lease], seconds: float = 60.0) -> list[Lease]:
    with database.write() as connection:
        return claims.renew(connection, database.sql, leases, seconds)


def release(database: Database, leases: list[Lease]) -> list[Lease]:
    with database.write() as connection:
        return claims.release(connection, leases)


def answer(database: Database, batch_id: str, *positions: int) -> None:
    """Put in bare results, as if somebody had committed them."""
    with database.write() as connection:
        rows = [
            {
                "batch_id": batch_id,
                "position": position,
                "seq": seq,
                "status": "succeeded",
                "truncated": False,
                "attempts": 1,
            }
            for seq, position in enumerate(positions, start=1)
        ]
        connection.execute(insert(Result), rows)


class TestTake:
    def test_leases_slices_under_a_new_token(self, database: Database) -> None:
        batch_id = insert_batch(database, 10, parameters={"top_k": None})

        leases = take(database)

        assert [(lease.start_position, lease.size) for lease in leases] == [(0, 4), (4, 4), (8, 2)]
        assert {(lease.batch_id, lease.fencing_token, lease.attempts) for lease in leases} == {(batch_id, 1, 1)}
        assert leases[0].parameters == {"top_k": None}
        for row in get_slices(database, batch_id):
            assert (row.state, row.worker_id, row.fencing_token, row.attempts) == ("leased", "worker-1", 1, 1)
            assert row.first_claimed_at is not None
            held_for = row.lease_expires_at - row.first_claimed_at
            assert timedelta(seconds=29) < held_for <= timedelta(seconds=31), "by the database's clock"

    def test_finds_nothing_when_there_is_nothing(self, database: Database) -> None:
        assert take(database) == []

    def test_never_leases_a_slice_twice(self, database: Database) -> None:
        insert_batch(database, 10)

        assert len(take(database)) == 3
        assert take(database, who=claimant_for("worker-2")) == []

    @pytest.mark.parametrize(
        "columns",
        [
            {"pipeline": "another"},
            {"task": "summarization"},
            {"status": "validating"},
            {"status": "cancelling"},
            {"status": "failed"},
            {"revision": OTHER_REVISION},
        ],
    )
    def test_leaves_alone_what_is_not_for_it(self, database: Database, columns: dict[str, Any]) -> None:
        insert_batch(database, 4, **columns)

        assert take(database) == []


class TestPolicy:
    def order(self, database: Database) -> list[str]:
        """The batches in the order in which claims of one slice get to them."""
        batch_ids: list[str] = []
        while leases := take(database, room=1):
            batch_ids += [lease.batch_id for lease in leases]
        return batch_ids

    def test_highest_priority_first(self, database: Database) -> None:
        low, high, middle = (insert_batch(database, 4, priority=priority) for priority in (-1, 5, 0))

        assert self.order(database) == [high, middle, low]

    def test_then_the_nearest_deadline(self, database: Database) -> None:
        soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
        never, second, first = (insert_batch(database, 4, expires_at=time) for time in (None, later, soon))

        assert self.order(database) == [first, second, never]

    def test_a_priority_beats_a_deadline(self, database: Database) -> None:
        urgent = insert_batch(database, 4, expires_at=datetime.now(UTC) + timedelta(minutes=1))
        important = insert_batch(database, 4, priority=1)

        assert self.order(database) == [important, urgent]

    def test_then_the_batch_served_least(self, database: Database) -> None:
        large = insert_batch(database, 24)
        small = insert_batch(database, 8)

        assert self.order(database) == [large, small, large, small, large, large, large, large]

    def test_answers_count_as_served_like_leases(self, database: Database) -> None:
        served_id = insert_batch(database, 4, succeeded=3, failed=2)
        untouched = insert_batch(database, 4)

        assert self.order(database) == [untouched, served_id]

    def test_then_the_oldest(self, database: Database) -> None:
        ids = [insert_batch(database, 4) for _ in range(3)]

        assert self.order(database) == ids

    def test_takes_a_batch_s_slices_in_their_order(self, database: Database) -> None:
        insert_batch(database, 16)

        assert [take(database, room=1)[0].start_position for _ in range(4)] == [0, 4, 8, 12]


class TestRoom:
    @pytest.mark.parametrize(("room", "jobs"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 12), (1000, 20)])
    def test_is_filled_with_whole_slices(self, database: Database, room: int, jobs: int) -> None:
        insert_batch(database, 20)

        assert sum(lease.size for lease in take(database, room)) == jobs

    def test_reaches_into_the_next_batch(self, database: Database) -> None:
        first, second = insert_batch(database, 8), insert_batch(database, 20)

        claimed = take(database, room=12)

        assert [lease.batch_id for lease in claimed] == [first, first, second]

    def test_none_takes_nothing(self, database: Database) -> None:
        insert_batch(database, 4)

        assert take(database, room=0) == []


class TestNotBefore:
    def set(self, database: Database, time: datetime, first: int = 0) -> None:
        with database.write() as connection:
            connection.execute(update(Slice).where(Slice.start_position == first).values(available_at=time))

    def test_keeps_a_slice_until_its_time(self, database: Database) -> None:
        insert_batch(database, 4)
        self.set(database, datetime.now(UTC) + timedelta(hours=1))
        assert take(database) == []

        self.set(database, datetime.now(UTC) - timedelta(seconds=1))
        assert len(take(database)) == 1

    def test_of_one_slice_does_not_keep_its_neighbours(self, database: Database) -> None:
        insert_batch(database, 12)
        self.set(database, datetime.now(UTC) + timedelta(hours=1), first=4)

        assert [lease.start_position for lease in take(database)] == [0, 8]

    def test_of_one_batch_does_not_keep_the_others(self, database: Database) -> None:
        insert_batch(database, 4, priority=9)
        self.set(database, datetime.now(UTC) + timedelta(hours=1))
        due = insert_batch(database, 4)

        assert [lease.batch_id for lease in take(database)] == [due]


class TestTwoClaimants:
    def test_get_disjoint_slices(self, database: Database) -> None:
        batch_id = insert_batch(database, 200)  # 50 slices

        def claim_all(worker_id: str) -> list[Lease]:
            own_leases: list[Lease] = []
            while leases := take(database, 12, claimant_for(worker_id)):
                own_leases += leases
            return own_leases

        claimed = run_concurrently(
            *(lambda name=name: claim_all(name) for name in ("worker-1", "worker-2", "worker-3"))
        )

        ids = [lease.slice_id for leases in claimed for lease in leases]
        assert len(ids) == len(set(ids)) == 50
        assert {row.attempts for row in get_slices(database, batch_id)} == {1}
        by_worker = {row.id: row.worker_id for row in get_slices(database, batch_id)}
        for worker_id, leases in zip(("worker-1", "worker-2", "worker-3"), claimed, strict=True):
            assert {by_worker[lease.slice_id] for lease in leases} <= {worker_id}


class TestRevision:
    def test_is_settled_by_the_first_claim(self, database: Database) -> None:
        batch_id = insert_batch(database, 8, model="made/unpinned", revision=None)

        claimed = take(database, room=1)

        assert len(claimed) == 1
        row = batch_rows.get_batch(database, batch_id)
        assert (row.model, row.revision) == ("made/model", REVISION)

    def test_once_settled_is_taken_by_nobody_else(self, database: Database) -> None:
        insert_batch(database, 8, revision=None)
        take(database, room=1)

        assert take(database, who=claimant_for("worker-2", revision=OTHER_REVISION)) == []
        assert len(take(database, who=claimant_for("worker-3"))) == 1

    def test_of_two_claimants_exactly_one_wins(self, database: Database) -> None:
        for _ in range(10):
            batch_id = insert_batch(database, 8, revision=None)

            claimed = run_concurrently(
                lambda: take(database, who=claimant_for("worker-1")),
                lambda: take(database, who=claimant_for("worker-2", revision=OTHER_REVISION)),
            )

            settled = batch_rows.get_batch(database, batch_id).revision
            winner = 0 if settled == REVISION else 1
            assert settled in (REVISION, OTHER_REVISION)
            assert [len(leases) for leases in claimed] == ([2, 0] if winner == 0 else [0, 2])
            update_batch(database, batch_id, status="completed")

    def test_settled_by_two_of_the_same_revision_serves_both(self, database: Database) -> None:
        insert_batch(database, 40, revision=None)

        claimed = run_concurrently(
            *(lambda name=name: take(database, 20, claimant_for(name)) for name in ("worker-1", "worker-2"))
        )

        assert sum(len(leases) for leases in claimed) == 10


class TestPending:
    def test_gives_the_inputs_of_a_slice_in_order(self, database: Database) -> None:
        insert_batch(database, [{"text": "one"}, {"text": "two", "text_pair": "zwei"}, {"text": "drei 世界 😀"}])
        leases = take(database)

        jobs = get_unanswered_jobs(database, leases)

        assert [job.input for job in jobs] == [
            {"text": "one"},
            {"text": "two", "text_pair": "zwei"},
            {"text": "drei 世界 😀"},
        ]
        assert [job.position for job in jobs] == [0, 1, 2]
        assert all(job.lease is leases[0] for job in jobs)

    def test_leaves_out_what_has_a_result(self, database: Database) -> None:
        batch_id = insert_batch(database, 10)
        answer(database, batch_id, 1, 2, 4, 9)

        jobs = get_unanswered_jobs(database, take(database))

        assert [job.position for job in jobs] == [0, 3, 5, 6, 7, 8]

    def test_gives_only_the_jobs_of_the_slices_asked_for(self, database: Database) -> None:
        insert_batch(database, 10)
        insert_batch(database, 10)

        jobs = get_unanswered_jobs(database, take(database)[1:2])

        assert [job.position for job in jobs] == [4, 5, 6, 7]


class TestSizes:
    def test_are_of_the_same_jobs_in_the_same_order(self, database: Database) -> None:
        batch_id = insert_batch(database, 10)
        answer(database, batch_id, 1, 2, 4, 9)
        leases = take(database)

        jobs, sizes = get_unanswered_jobs(database, leases), claims.unanswered_job_sizes(database, leases)

        assert [(size.lease, size.position, size.size_bytes) for size in sizes] == [
            (job.lease, job.position, job.size_bytes) for job in jobs
        ]

    @pytest.mark.parametrize("text", ["a" * 500_000, "漢" * 300_000, "a" * 100, "\x01" * 1_000, "no two alike"])
    def test_are_no_less_than_the_text_s_however_it_is_stored(self, database: Database, text: str) -> None:
        insert_batch(database, [{"text": text}])

        [size] = claims.unanswered_job_sizes(database, take(database))

        assert len(text.encode()) <= size.size_bytes <= 6 * len(text.encode()) + 100


class TestInputs:
    def test_are_of_the_stretches_asked_for(self, database: Database) -> None:
        insert_batch(database, 10)
        [first, second, _] = take(database)

        jobs = claims.read_inputs(database, [SliceRange(first, 1, 3), SliceRange(second, 7, 8)])

        assert [(job.lease, job.position) for job in jobs] == [(first, 1), (first, 2), (second, 7)]


class TestRenew:
    def test_prolongs_what_is_held(self, database: Database) -> None:
        insert_batch(database, 8)
        leases = take(database)
        before = [get_slice(database, lease).lease_expires_at for lease in leases]

        assert renew(database, leases, seconds=3600) == []

        for lease, old in zip(leases, before, strict=True):
            assert get_slice(database, lease).lease_expires_at > old + timedelta(minutes=50)

    def test_tells_what_was_lost_and_leaves_it_to_its_new_holder(self, database: Database) -> None:
        insert_batch(database, 8)
        leases = take(database)
        expire_leases(database, leases[0])
        reclaim.reclaim_expired(database, 3)
        [retaken] = take(database, who=claimant_for("worker-2"))
        before = get_slice(database, retaken)

        assert renew(database, leases) == [leases[0]]

        assert get_slice(database, retaken) == before

    def test_keeps_a_lease_that_ran_out_before_anybody_noticed(self, database: Database) -> None:
        insert_batch(database, 4)
        leases = take(database)
        expire_leases(database, *leases)

        assert renew(database, leases) == []

        assert not reclaim.reclaim_expired(database, 3)

    def test_tells_what_was_queued_again_as_lost(self, database: Database) -> None:
        insert_batch(database, 4)
        leases = take(database)
        expire_leases(database, *leases)
        reclaim.reclaim_expired(database, 3)

        assert renew(database, leases) == leases

        assert get_slice(database, leases[0]).state == "queued"

    def test_does_not_call_lost_what_was_closed_under_it(self, database: Database) -> None:
        insert_batch(database, 8)
        finished, held_lease = take(database)
        with database.write() as connection:
            commit.commit_results(connection, BatchCommit([finished], [], {finished.slice_id}))

        assert renew(database, [finished, held_lease]) == []

        assert get_slice(database, finished).state == "done"


class TestRelease:
    def test_gives_back_the_slice_and_its_attempt(self, database: Database) -> None:
        insert_batch(database, 8)
        leases = take(database)

        assert release(database, leases) == leases

        for lease in leases:
            row = get_slice(database, lease)
            assert (row.state, row.worker_id, row.lease_expires_at, row.attempts) == ("queued", None, None, 0)
            assert row.fencing_token == 1, "the fence never shrinks"
        assert [lease.fencing_token for lease in take(database)] == [2, 2]

    def test_under_a_stale_token_changes_nothing(self, database: Database) -> None:
        insert_batch(database, 4)
        [stale] = take(database)
        expire_leases(database, stale)
        reclaim.reclaim_expired(database, 3)
        [current] = take(database, who=claimant_for("worker-2"))
        before = get_slice(database, current)

        assert release(database, [stale]) == []

        assert get_slice(database, current) == before

    def test_twice_gives_back_once(self, database: Database) -> None:
        insert_batch(database, 4)
        leases = take(database)
        release(database, leases)

        assert release(database, leases) == []

        assert get_slice(database, leases[0]).attempts == 0


def crash(database: Database) -> reclaim.ReclaimResult:
    """See to what the worker left, as whoever saw it die of its own does."""
    return reclaim.reclaim_from_worker(database, "worker-1", AttemptOutcome.CRASHED, 3)


class TestReclaim:
    def test_leaves_what_is_held(self, database: Database) -> None:
        insert_batch(database, 4)
        leases = take(database)

        assert not reclaim.reclaim_expired(database, 3)

        assert get_slice(database, leases[0]).state == "leased"

    def test_queues_what_ran_out_and_counts_the_attempt(self, database: Database) -> None:
        insert_batch(database, 8)
        leases = take(database)
        expire_leases(database, leases[0])

        assert reclaim.reclaim_expired(database, 3).requeued == [leases[0].slice_id]

        row = get_slice(database, leases[0])
        assert (row.state, row.worker_id, row.lease_expires_at, row.attempts) == ("queued", None, None, 1)
        [retaken] = take(database)
        assert (retaken.slice_id, retaken.fencing_token, retaken.attempts) == (leases[0].slice_id, 2, 2)

    def test_by_many_at_once_queues_each_slice_once(self, database: Database) -> None:
        insert_batch(database, 40)
        leases = take(database)
        expire_leases(database, *leases)

        found = run_concurrently(*[lambda: reclaim.reclaim_expired(database, 3)] * 4)

        queued = [slice_id for each in found for slice_id in each.requeued]
        assert sorted(queued) == sorted(lease.slice_id for lease in leases)


class TestSuspects:
    """A slice over which workers died twice is split into single jobs, each of which is run alone."""

    def crash_on(self, database: Database, **options: Any) -> list[Lease]:
        return take(database, **options)

    def test_are_split_into_single_jobs_without_the_answered_ones(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        self.crash_on(database)
        crash(database)
        [second] = self.crash_on(database)
        answer(database, batch_id, 1)

        assert crash(database).split == [second.slice_id]

        rows = [row for row in get_slices(database, batch_id) if row.id != second.slice_id]
        assert [(row.start_position, row.size, row.state, row.attempts) for row in rows] == [
            (index, 1, "queued", 2) for index in (0, 2, 3)
        ]
        assert get_slice(database, second).state == "done"
        assert renew(database, [second]) == [second], "whoever held the whole slice has lost it"

    def test_are_claimed_one_at_a_time_and_only_when_asked_for(self, database: Database) -> None:
        insert_batch(database, 4)
        for _ in range(2):
            self.crash_on(database)
            crash(database)

        assert take(database) == []
        [only] = take(database, from_quarantine=True)

        assert only.is_quarantined
        assert (only.start_position, only.size, only.attempts) == (0, 1, 3)

    def test_are_not_what_a_second_attempt_is(self, database: Database) -> None:
        insert_batch(database, 4)
        self.crash_on(database)
        crash(database)

        assert take(database, from_quarantine=True) == []
        [second] = take(database)
        assert not second.is_quarantined

    def test_end_as_dead_letters_after_the_last_attempt(self, database: Database) -> None:
        batch_id = insert_batch(database, 2)
        for _ in range(2):
            self.crash_on(database)
            crash(database)
        [culprit] = self.crash_on(database, from_quarantine=True)

        assert crash(database).dead_lettered == [culprit.slice_id]

        [result] = batch_rows.get_results(database, batch_id)
        assert (result.position, result.status, result.error_code) == (0, "failed", "worker_crashed")
        assert (result.attempts, result.fencing_token) == (3, culprit.fencing_token)
        assert get_slice(database, culprit).state == "done"
        assert [lease.start_position for lease in take(database, from_quarantine=True)] == [1], (
            "its neighbour gets its turn"
        )
        assert_consistent(database, batch_id)

    def test_that_end_a_batch_complete_it(self, database: Database) -> None:
        batch_id = insert_batch(database, 1)
        for _ in range(2):
            self.crash_on(database)
            crash(database)
        self.crash_on(database, from_quarantine=True)

        crash(database)

        assert batch_rows.get_batch(database, batch_id).status == "completed"
        assert_consistent(database, batch_id)


class TestSilence:
    """Who fell silent was hardly killed by its input: only many such ends without a result between them count."""

    def lose_lease(self, database: Database, times: int, **options: Any) -> reclaim.ReclaimResult:
        for _ in range(times):
            expire_leases(database, *take(database, **options))
            found = reclaim.reclaim_expired(database, 3)
        return found

    def test_of_four_holders_only_queues(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)

        found = self.lose_lease(database, 4)

        assert (found.split, found.dead_lettered) == ([], [])
        assert [(row.state, row.attempts, row.lost_leases) for row in get_slices(database, batch_id)] == [
            ("queued", 4, 4)
        ]

    def test_of_five_makes_suspect(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)

        assert self.lose_lease(database, 5).split != []

        assert [row.size for row in get_slices(database, batch_id) if row.state == "queued"] == [1] * 4

    def test_is_forgotten_once_there_is_a_result(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        self.lose_lease(database, 4)
        [lease] = take(database)
        with database.write() as connection:
            answer = JobResult(lease, 0, JobOutcome.SUCCEEDED, output="{}")
            commit.commit_results(connection, BatchCommit([lease], [answer], set()))
        expire_leases(database, lease)

        assert reclaim.reclaim_expired(database, 3).requeued == [lease.slice_id]

        assert [row.lost_leases for row in get_slices(database, batch_id)] == [1]

    def test_is_a_dead_letter_in_the_end(self, database: Database) -> None:
        batch_id = insert_batch(database, 1)

        self.lose_lease(database, 5)
        found = self.lose_lease(database, 3, from_quarantine=True)

        assert found.dead_lettered != []
        [result] = batch_rows.get_results(database, batch_id)
        assert (result.error_code, result.attempts) == ("worker_crashed", 8)
        assert_consistent(database, batch_id)


class TestHistory:
    def outcomes(self, database: Database, batch_id: str) -> list[tuple[Any, ...]]:
        with database.read() as connection:
            query = text(
                "SELECT outcome, attempt, fencing_token, worker_id, start_position, end_position FROM attempts "
                "WHERE batch_id = :id ORDER BY id"
            )
            return [tuple(row) for row in connection.execute(query, {"id": batch_id})]

    def test_tells_how_every_claim_ended(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        release(database, take(database))
        expire_leases(database, *take(database, who=claimant_for("worker-2")))
        reclaim.reclaim_expired(database, 3)
        [lease] = take(database)
        with database.write() as connection:
            results = [JobResult(lease, index, JobOutcome.SUCCEEDED, output="{}") for index in range(4)]
            commit.commit_results(connection, BatchCommit([lease], results, {lease.slice_id}))

        assert self.outcomes(database, batch_id) == [
            ("released", 1, 1, "worker-1", 0, 4),
            ("lease_expired", 1, 2, "worker-2", 0, 4),
            ("done", 2, 3, "worker-1", 0, 4),
        ]
        with database.read() as connection:
            query = text(
                "SELECT outcome FROM job_attempts WHERE batch_id = :id AND position = 3 ORDER BY fencing_token"
            )
            assert list(connection.scalars(query, {"id": batch_id})) == ["released", "lease_expired", "done"]
