"""The store on both databases: results, counters and slices close together, under a fence, or not at all."""

import threading
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, text

from models.db import Database
from models.lifecycle import termination
from models.states import JobOutcome, Termination
from models.tables.results import ModelVersion, Result
from tests.factories import batch_rows
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    MODEL,
    MODEL_VERSION,
    PIPELINE,
    TASK,
    assert_consistent,
    claimant_for,
    expire_leases,
    get_batch,
    get_results,
    get_slice,
    get_slices,
    get_unanswered_jobs,
    insert_batch,
)
from tests.servers import wait_until
from tests.threads import run_concurrently
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.leasing.leases import Lease
from worker.loading import versions

SLICE = 4  # jobs in a slice, as insert_batch cuts them


@pytest.fixture
def version_id(database: Database) -> int:
    return versions.register_version(database, MODEL_VERSION)


def take(database: Database, worker_id: str = "worker-1", room: int = 1000) -> list[Lease]:
    return claims.claim(database, claimant_for(worker_id), room, SLICE)


def answers(lease: Lease, *indexes: int, **other: Any) -> list[JobResult]:
    """Successes for these places of a slice; for all of it when none is named."""
    fields = {
        "status": JobOutcome.SUCCEEDED,
        "output": '{"label": "POSITIVE"}',
        "tokens": 5,
        "padded_tokens": 8,
        **other,
    }
    return [JobResult(lease, lease.start_position + index, **fields) for index in indexes or range(lease.size)]


def close(
    database: Database,
    version_id: int,
    results: Sequence[JobResult],
    leases: Collection[Lease],
    *,
    finished: Collection[Lease] = (),
    again: bool = False,
) -> CommitResult:
    with database.write() as connection:
        ids = {lease.slice_id for lease in finished}
        return commit.commit_results(connection, BatchCommit(leases, results, ids, version_id), is_retry=again)


def steal(database: Database, lease: Lease) -> Lease:
    """Let a lease run out and another worker take the slice."""
    expire_leases(database, lease)
    reclaim.reclaim_expired(database, 3)
    [newer] = take(database, "thief", room=1)
    assert newer.slice_id == lease.slice_id
    return newer


class TestClose:
    def test_writes_results_counters_and_the_end_of_the_slice(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [lease, other] = take(database)
        results = [
            *answers(lease, 0, 1, truncated=True),
            *answers(lease, 2, status=JobOutcome.FAILED, output=None, error_code="model_error", error_message="No."),
            *answers(lease, 3, output="null"),
        ]

        result = close(database, version_id, results, [lease], finished=[lease])

        assert result == CommitResult(4, frozenset(), final_status=None)
        rows = get_results(database, batch_id)
        assert [row.status for row in rows] == ["succeeded", "succeeded", "failed", "succeeded"]
        assert [row.output for row in rows] == [{"label": "POSITIVE"}, {"label": "POSITIVE"}, None, None]
        assert [row.truncated for row in rows] == [True, True, False, False]
        assert (rows[2].error_code, rows[2].error_message) == ("model_error", "No.")
        assert {(row.slice_id, row.fencing_token, row.attempts, row.model_version_id) for row in rows} == {
            (lease.slice_id, 1, 1, version_id)
        }
        assert all(row.finished_at is not None for row in rows)
        counts = get_batch(database, batch_id)
        assert (counts.succeeded, counts.failed, counts.last_seq) == (3, 1, 4)
        assert (counts.tokens, counts.padded_tokens) == (20, 32)
        assert (counts.status, counts.completed_at) == ("in_progress", None)
        assert get_slice(database, lease).state == "done"
        assert get_slice(database, lease).done_at is not None
        assert get_slice(database, other).state == "leased"
        assert_consistent(database, batch_id)

    def test_writes_tokens_and_how_a_text_ended(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)
        results = [
            *answers(lease, 0, input_tokens=12, output_tokens=30, finish_reason="length"),
            *answers(lease, 1, input_tokens=12, output_tokens=3, finish_reason="stop", tokens=0),
            *answers(lease, 2, input_tokens=5),
            *answers(lease, 3),
        ]

        close(database, version_id, results, [lease])

        rows = get_results(database, batch_id)
        assert [(row.input_tokens, row.output_tokens, row.finish_reason) for row in rows] == [
            (12, 30, "length"),
            (12, 3, "stop"),
            (5, None, None),
            (None, None, None),
        ]

    def test_of_a_part_keeps_the_lease(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)

        close(database, version_id, answers(lease, 2), [lease])

        assert get_slice(database, lease).state == "leased"
        assert get_slice(database, lease).done_at is None
        assert [job.position for job in get_unanswered_jobs(database, [lease])] == [0, 1, 3]
        assert_consistent(database, batch_id)

    def test_counts_seq_in_the_order_given_across_writes(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)

        close(database, version_id, answers(lease, 3, 0), [lease])
        close(database, version_id, answers(lease, 2, 1), [lease], finished=[lease])

        assert [row.seq for row in get_results(database, batch_id)] == [2, 4, 3, 1]

    def test_ends_a_slice_that_has_no_open_job_left(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [lease, _other] = take(database)
        close(database, version_id, answers(lease), [lease])

        result = close(database, version_id, [], [lease], finished=[lease])

        assert result == CommitResult(0, frozenset(), final_status=None)
        assert get_slice(database, lease).state == "done"
        assert_consistent(database, batch_id)

    def test_of_the_last_slice_completes_the_batch(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        leases = take(database)
        results = [answer for lease in leases for answer in answers(lease)]

        result = close(database, version_id, results, leases, finished=leases)

        assert result.final_status == "completed"
        assert get_batch(database, batch_id).status == "completed"
        assert get_batch(database, batch_id).completed_at is not None
        assert_consistent(database, batch_id)

    def test_is_all_or_nothing(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)

        def close_and_fail() -> None:
            with database.write() as connection:
                commit.commit_results(connection, BatchCommit([lease], answers(lease), {lease.slice_id}, version_id))
                raise InterruptedError

        with pytest.raises(InterruptedError):
            close_and_fail()

        assert get_results(database, batch_id) == []
        assert get_batch(database, batch_id).last_seq == 0
        assert get_slice(database, lease).state == "leased"

    def test_into_a_batch_that_is_gone_writes_nothing(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)
        for table in ("jobs", "slices"):
            batch_rows.execute(database, f"DELETE FROM {table} WHERE batch_id = :id", id=batch_id)
        batch_rows.execute(database, "DELETE FROM batches WHERE id = :id", id=batch_id)

        result = close(database, version_id, answers(lease), [lease], finished=[lease])

        assert result == CommitResult(0, frozenset({lease.slice_id}), final_status=None)


class TestFence:
    def test_drops_a_stale_lease_s_rows_while_the_others_land(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [stale, held] = take(database)
        newer = steal(database, stale)

        result = close(database, version_id, answers(stale) + answers(held), [stale, held], finished=[stale, held])

        assert result == CommitResult(4, frozenset({stale.slice_id}), final_status=None)
        assert [row.position for row in get_results(database, batch_id)] == [4, 5, 6, 7]
        assert get_slice(database, stale).state == "leased", "the thief goes on"
        assert_consistent(database, batch_id)

        assert close(database, version_id, answers(newer), [newer], finished=[newer]).final_status == "completed"
        assert {row.fencing_token for row in get_results(database, batch_id)[:4]} == {2}
        assert_consistent(database, batch_id)

    def test_drops_everything_when_all_leases_are_stale(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [stale] = take(database)
        steal(database, stale)

        result = close(database, version_id, answers(stale), [stale], finished=[stale])

        assert result == CommitResult(0, frozenset({stale.slice_id}), final_status=None)
        assert get_results(database, batch_id) == []
        assert_consistent(database, batch_id)

    def test_drops_what_was_queued_again_though_nobody_took_it(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [expired] = take(database)
        expire_leases(database, expired)
        reclaim.reclaim_expired(database, 3)

        result = close(database, version_id, answers(expired), [expired], finished=[expired])

        assert result.lost_slice_ids == {expired.slice_id}
        assert get_results(database, batch_id) == []
        assert get_slice(database, expired).state == "queued"

    def test_holds_a_lease_that_ran_out_unnoticed(self, database: Database, version_id: int) -> None:
        insert_batch(database, 4)
        [lease] = take(database)
        expire_leases(database, lease)

        assert close(database, version_id, answers(lease), [lease], finished=[lease]).final_status == "completed"

    def test_grows_with_every_claim_and_with_the_end_of_the_batch(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        fencing_tokens = []
        for _ in range(3):
            [lease] = take(database)
            fencing_tokens.append(lease.fencing_token)
            with database.write() as connection:
                claims.release(connection, [lease])

        termination.terminate(database, batch_id, Termination.FAILED, "code", "message")

        assert [*fencing_tokens, get_slices(database, batch_id)[0].fencing_token] == [1, 2, 3, 4]

    def test_and_a_theft_at_once_leave_one_outcome_each(self, database: Database, version_id: int) -> None:
        for _ in range(10):
            batch_id = insert_batch(database, 4)
            [lease] = take(database)
            expire_leases(database, lease)

            def holder(lease: Lease = lease) -> bool:
                return close(database, version_id, answers(lease), [lease], finished=[lease]).results_written == 4

            def steal_and_answer() -> bool:
                if not reclaim.reclaim_expired(database, 3).requeued:
                    return False
                # A claim passes over a slice for the blink in which its former holder waits for it.
                newer: list[Lease] = []
                wait_until(lambda: bool(newer.extend(take(database, "thief")) or newer), "the thief to get the slice")
                results = [
                    JobResult(newer[0], job.position, JobOutcome.SUCCEEDED, "1")
                    for job in get_unanswered_jobs(database, newer)
                ]
                return close(database, version_id, results, newer, finished=newer).final_status == "completed"

            kept, stolen = run_concurrently(holder, steal_and_answer)

            assert kept is not stolen, "either the holder was in time or the thief was"
            assert get_batch(database, batch_id).status == "completed"
            assert_consistent(database, batch_id)


class TestAgain:
    """A commit whose answer was lost is tried again, and must not count twice."""

    def test_after_a_part_writes_nothing_twice(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [lease, _other] = take(database)
        close(database, version_id, answers(lease, 0, 1), [lease])

        result = close(database, version_id, answers(lease, 0, 1), [lease], again=True)

        assert result == CommitResult(0, frozenset(), final_status=None)
        assert get_batch(database, batch_id).tokens == 10
        assert_consistent(database, batch_id)

    def test_after_a_whole_slice_writes_nothing_twice(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [lease, other] = take(database)
        close(database, version_id, answers(lease), [lease], finished=[lease])

        result = close(
            database, version_id, answers(lease) + answers(other, 0), [lease, other], finished=[lease], again=True
        )

        assert result.results_written == 1, "what had not been committed is"
        assert [row.position for row in get_results(database, batch_id)] == [0, 1, 2, 3, 4]
        assert_consistent(database, batch_id)

    def test_after_the_last_slice_changes_nothing(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)
        close(database, version_id, answers(lease), [lease], finished=[lease])
        before = get_batch(database, batch_id)

        result = close(database, version_id, answers(lease), [lease], finished=[lease], again=True)

        assert (result.results_written, result.final_status == "completed") == (0, False)
        assert get_batch(database, batch_id) == before

    def test_without_an_earlier_commit_writes_everything(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4)
        [lease] = take(database)

        assert (
            close(database, version_id, answers(lease), [lease], finished=[lease], again=True).final_status
            == "completed"
        )

        assert_consistent(database, batch_id)


class TestConcurrentWriters:
    def test_complete_a_batch_exactly_once(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 6 * SLICE)
        leases = take(database)

        result = run_concurrently(
            *(
                lambda lease=lease: close(database, version_id, answers(lease), [lease], finished=[lease])
                for lease in leases
            )
        )

        assert sorted(each.final_status == "completed" for each in result) == [False] * 5 + [True]
        assert_consistent(database, batch_id)

    def test_never_let_a_cursor_miss_a_row(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4 * 25, slice_size=25)
        leases = claims.claim(database, claimant_for(), 100, 25)
        ended = threading.Event()

        def write(lease: Lease) -> None:
            for index in range(lease.size):
                last = [lease] if index == lease.size - 1 else []
                close(database, version_id, answers(lease, index), [lease], finished=last)

        def follow() -> list[int]:
            query = select(Result.seq).where(Result.batch_id == batch_id).order_by(Result.seq)
            seqs: list[int] = []
            last_look = False
            while not last_look:
                last_look = ended.is_set()
                with database.read() as connection:
                    seqs += connection.scalars(query.where(Result.seq > (seqs[-1] if seqs else 0)))
            return seqs

        def write_all() -> list[int]:
            try:
                run_concurrently(*(lambda lease=lease: write(lease) for lease in leases))
            finally:
                ended.set()
            return []

        seqs, _ = run_concurrently(follow, write_all)

        assert seqs == list(range(1, 101)), "in order, none missed, none twice"
        assert get_batch(database, batch_id).status == "completed"
        assert_consistent(database, batch_id)

    def test_of_many_slices_each_never_wait_for_each_other(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 20 * SLICE)
        leases = take(database)
        mixed = [leases[0::2], leases[1::2][::-1]]

        def work(own_lease: list[Lease]) -> None:
            for index in range(SLICE):
                results = [answer for lease in own_lease for answer in answers(lease, index)]
                close(database, version_id, results, own_lease, finished=own_lease if index == SLICE - 1 else [])

        def renew() -> None:
            for order in (leases, leases[::-1]):
                with database.write() as connection:
                    claims.renew(connection, database.sql, order, LEASE_SECONDS)

        run_concurrently(lambda: work(mixed[0]), lambda: work(mixed[1]), renew)

        assert get_batch(database, batch_id).status == "completed"
        assert_consistent(database, batch_id)


class TestFail:
    def fail(self, database: Database, batch_id: str) -> int:
        return (
            termination.terminate(database, batch_id, Termination.FAILED, "model_unusable", "The model has no weights.")
            or 0
        )

    def test_ends_every_open_job(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 12)
        lease = take(database, room=1)[0]
        close(database, version_id, answers(lease, 1, 3), [lease])

        assert self.fail(database, batch_id) == 10

        rows = get_results(database, batch_id)
        assert [row.status for row in rows] == ["failed", "succeeded", "failed", "succeeded"] + ["failed"] * 8
        assert {(row.error_code, row.error_message) for row in rows if row.status == "failed"} == {
            ("model_unusable", "The model has no weights.")
        }
        ended = get_batch(database, batch_id)
        assert (ended.status, ended.succeeded, ended.failed) == ("failed", 2, 10)
        assert (ended.error_code, ended.error_message) == ("model_unusable", "The model has no weights.")
        assert ended.failed_at is not None
        assert ended.completed_at is None
        assert {row.state for row in get_slices(database, batch_id)} == {"done"}
        assert_consistent(database, batch_id)

    def test_leaves_other_batches_alone(self, database: Database) -> None:
        batch_id, other = insert_batch(database, 4), insert_batch(database, 4)

        self.fail(database, batch_id)

        assert get_batch(database, other).status == "in_progress"
        assert get_results(database, other) == []
        assert [row.state for row in get_slices(database, other)] == ["queued"]

    def test_twice_fails_once(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        self.fail(database, batch_id)
        before = get_batch(database, batch_id)

        assert self.fail(database, batch_id) == 0

        assert get_batch(database, batch_id) == before

    def test_of_what_does_not_exist_fails_nothing(self, database: Database) -> None:
        assert self.fail(database, "batch_unknown") == 0

    def test_leaves_nothing_to_claim_renew_release_or_close(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [lease] = take(database, room=1)
        self.fail(database, batch_id)
        before = (get_batch(database, batch_id), get_results(database, batch_id), get_slices(database, batch_id))

        result = close(database, version_id, answers(lease), [lease], finished=[lease])

        assert result == CommitResult(0, frozenset({lease.slice_id}), final_status=None)
        assert take(database) == []
        with database.write() as connection:
            assert claims.renew(connection, database.sql, [lease], LEASE_SECONDS) == [lease]
            assert claims.release(connection, [lease]) == []
        assert (
            get_batch(database, batch_id),
            get_results(database, batch_id),
            get_slices(database, batch_id),
        ) == before

    def test_and_closing_writes_at_once_leave_one_outcome_each(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 10 * SLICE)
        leases = take(database)

        def write() -> int:
            return sum(
                close(database, version_id, answers(lease), [lease], finished=[lease]).results_written
                for lease in leases
            )

        results, failed = run_concurrently(write, lambda: self.fail(database, batch_id))

        assert results + failed == 10 * SLICE
        assert get_batch(database, batch_id).status == ("failed" if failed else "completed")
        assert_consistent(database, batch_id)


class TestRegister:
    def count(self, database: Database) -> int:
        with database.read() as connection:
            return connection.scalar(select(func.count()).select_from(ModelVersion)) or 0

    def test_gives_the_same_id_for_the_same_version(self, database: Database) -> None:
        first = versions.register_version(database, MODEL_VERSION)

        assert versions.register_version(database, replace(MODEL_VERSION, libraries={"torch": "1"})) == first
        assert self.count(database) == 1

    @pytest.mark.parametrize("field", ["model", "revision", "tokenizer_revision", "dtype", "device", "attention"])
    def test_gives_another_id_for_another_version(self, database: Database, field: str) -> None:
        first = versions.register_version(database, MODEL_VERSION)

        assert versions.register_version(database, replace(MODEL_VERSION, **{field: "another"})) != first

    def test_keeps_every_field(self, database: Database) -> None:
        version_id = versions.register_version(database, MODEL_VERSION)

        with database.read() as connection:
            row = connection.execute(select(ModelVersion.__table__).where(ModelVersion.id == version_id)).one()
        for field in ("task", "model", "revision", "tokenizer", "dtype", "quantization", "attention", "libraries"):
            assert getattr(row, field) == getattr(MODEL_VERSION, field), field

    def test_by_many_at_once_makes_one_row(self, database: Database) -> None:
        ids = run_concurrently(*[lambda: versions.register_version(database, MODEL_VERSION)] * 6)

        assert len(set(ids)) == 1
        assert self.count(database) == 1


class TestJobResults:
    def test_tells_what_made_each_result(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 2)
        [lease] = take(database)
        close(database, version_id, answers(lease), [lease], finished=[lease])

        with database.read() as connection:
            row = connection.execute(
                text("SELECT * FROM job_results WHERE batch_id = :id AND position = 1"), {"id": batch_id}
            ).one()

        assert (row.status, row.model, row.revision, row.dtype) == (
            "succeeded",
            MODEL,
            MODEL_VERSION.revision,
            "float32",
        )
        assert (row.pipeline, row.task, row.attempts) == (PIPELINE, TASK, 1)
