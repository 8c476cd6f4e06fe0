"""Guards in SQL: who may claim a guarded batch, and what a commit and a retry store of verdicts and redacted inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from models.db import Database
from models.documents import to_json
from models.errors import DatabaseRefused
from models.guards.definition import Guard
from models.guards.verdict import Verdict, VerdictAction
from models.states import JobOutcome
from models.tables.batches import BatchGuard, Job
from producer.batches.actions.retry import RetrySelection, retry_jobs
from tests.factories.batch_rows import (
    MODEL_VERSION,
    PIPELINE,
    assert_consistent,
    claimant_for,
    execute,
    get_batch,
    get_results,
    get_unanswered_jobs,
    insert_batch,
)
from worker.leasing import commit
from worker.leasing.backlog import Backlog
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.leasing.leases import Lease
from worker.loading import versions

INJECTION = Guard(on="input", action="fail", pattern="ignore all")
NAMES = Guard(on="input", action="redact", words=("Ada",), keep_original=True)
GUARDS = {"injection": INJECTION, "names": NAMES}

SLICE = 4


@pytest.fixture
def version_id(database: Database) -> int:
    return versions.register_version(database, MODEL_VERSION)


def take(database: Database, guards: Mapping[str, Guard] = GUARDS) -> list[Lease]:
    return claims.claim(database, claimant_for(guards=guards), 1000, SLICE)


def verdicts(injection: VerdictAction = "pass", names: VerdictAction = "pass") -> tuple[Verdict, ...]:
    first = Verdict("injection", "input", injection)
    return (first,) if injection == "fail" else (first, Verdict("names", "input", names))


def success(lease: Lease, position: int, **fields: Any) -> JobResult:
    values = {"output": '{"label": "POSITIVE"}', "verdicts": verdicts(), "windows": 1, **fields}
    return JobResult(lease, position, JobOutcome.SUCCEEDED, **values)


def redacted(lease: Lease, position: int, text: str, **fields: Any) -> JobResult:
    values = {"redacted_input": to_json({"text": text}), "keep_original": True, "verdicts": verdicts(names="redact")}
    return success(lease, position, **{**values, **fields})


def failure(lease: Lease, position: int, **fields: Any) -> JobResult:
    values = {"error_code": "guard_blocked", "error_message": "guard injection blocked this input", **fields}
    return JobResult(lease, position, JobOutcome.FAILED, **{"verdicts": verdicts("fail"), **values})


def write(
    database: Database,
    version_id: int,
    results: Sequence[JobResult],
    *,
    guards: Mapping[str, Guard] = GUARDS,
    is_retry: bool = False,
) -> CommitResult:
    leases = {result.lease.slice_id: result.lease for result in results}
    finished = [
        lease.slice_id
        for lease in leases.values()
        if sum(result.lease is lease for result in results) == len(get_unanswered_jobs(database, [lease])) or is_retry
    ]
    with database.write() as connection:
        planned = BatchCommit([*leases.values()], results, finished, version_id, guards=guards)
        return commit.commit_results(connection, planned, is_retry=is_retry)


def counters(database: Database, batch_id: str) -> dict[str, tuple[int, int, int, int]]:
    with database.read() as connection:
        rows = connection.execute(select(BatchGuard.__table__).where(BatchGuard.batch_id == batch_id))
        return {row.guard: (row.passed, row.flagged, row.redacted, row.blocked) for row in rows}


def jobs(database: Database, batch_id: str) -> list[Any]:
    with database.read() as connection:
        return [*connection.execute(select(Job.__table__).where(Job.batch_id == batch_id).order_by(Job.position))]


class TestClaim:
    @pytest.mark.parametrize(
        ("worker_guards", "is_claimed"),
        [({}, False), ({"names": NAMES}, False), (GUARDS, True), ({**GUARDS, "more": INJECTION}, True)],
    )
    def test_needs_every_guard_of_the_batch(
        self, database: Database, worker_guards: dict[str, Guard], is_claimed: bool
    ) -> None:
        insert_batch(database, 4, guards=GUARDS)
        claimant = claimant_for(guards=worker_guards)

        assert Backlog(database, {PIPELINE: worker_guards}).has_work_for(claimant) is is_claimed
        assert bool(claims.claim(database, claimant, 100, SLICE)) is is_claimed

    def test_without_a_guard_takes_the_other_batches(self, database: Database) -> None:
        insert_batch(database, 4, guards=GUARDS)
        open_to_all = insert_batch(database, 4)

        assert [lease.batch_id for lease in take(database, {})] == [open_to_all]
        assert take(database, {}) == []
        assert len(take(database)) == 1

    def test_of_another_pipelines_guard_does_not_count(self, database: Database) -> None:
        insert_batch(database, 4, guards=GUARDS)

        work = Backlog(database, {PIPELINE: (), "another": tuple(GUARDS)})

        assert work.refresh() == []

    def test_sets_no_revision_on_a_batch_that_it_may_not_claim(self, database: Database) -> None:
        batch_id = insert_batch(database, 4, guards=GUARDS, revision=None)

        assert take(database, {}) == []

        assert get_batch(database, batch_id).revision is None


class TestAnOlderVersion:
    """Its workers know no guards, and may still run: they claim guarded batches, but can't write."""

    COMMIT = "UPDATE batches SET last_seq = last_seq + 1, succeeded = succeeded + 1 WHERE id = :id"

    def test_commits_no_success_to_a_guarded_batch(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4, guards=GUARDS)
        [lease] = take(database)
        write(database, version_id, [success(lease, 0)])

        with pytest.raises(DatabaseRefused):
            execute(database, self.COMMIT, id=batch_id)

        assert get_batch(database, batch_id).succeeded == 1
        write(database, version_id, [success(lease, 1)])

    def test_commits_to_others_as_before(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)

        execute(database, self.COMMIT, id=batch_id)

        assert get_batch(database, batch_id).succeeded == 1


class TestCommit:
    def test_counts_verdicts_with_their_results(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8, guards=GUARDS)
        [lease, other] = take(database)

        write(database, version_id, [success(lease, 0), failure(lease, 1), redacted(lease, 2, "[X]")])
        write(database, version_id, [success(lease, 3, guard_seconds={"injection": 0.5}), success(other, 4)])

        assert counters(database, batch_id) == {"injection": (4, 0, 0, 1), "names": (3, 0, 1, 0)}
        rows = get_results(database, batch_id)
        assert rows[1].guards == [verdict.as_dict() for verdict in verdicts("fail")]
        assert [row.windows for row in rows] == [1, None, 1, 1, 1]
        assert_consistent(database, batch_id)

    def test_stores_the_input_that_the_model_read(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 2, guards=GUARDS)
        [lease] = take(database)

        write(database, version_id, [redacted(lease, 0, 'Ä "x"'), redacted(lease, 1, "Ä", keep_original=False)])

        [kept, replaced] = jobs(database, batch_id)
        assert (kept.input, kept.original_input, kept.redacted) == ({"text": 'Ä "x"'}, {"text": "text 0"}, True)
        assert (replaced.input, replaced.original_input, replaced.redacted) == ({"text": "Ä"}, None, True)
        assert_consistent(database, batch_id)

    def test_that_is_repeated_counts_once(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4, guards=GUARDS)
        [lease] = take(database)
        results = [redacted(lease, 0, "[X]")]

        write(database, version_id, results)
        write(database, version_id, [*results, success(lease, 1)], is_retry=True)

        assert counters(database, batch_id)["names"] == (1, 0, 1, 0)
        assert jobs(database, batch_id)[0].original_input == {"text": "text 0"}

    def test_under_a_lost_lease_redacts_nothing(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 4, guards=GUARDS)
        [lease] = take(database)
        with database.write() as connection:
            claims.release(connection, [lease])

        written = write(database, version_id, [redacted(lease, 0, "[X]")])

        assert written.lost_slice_ids == {lease.slice_id}
        assert not jobs(database, batch_id)[0].redacted
        assert set(counters(database, batch_id).values()) == {(0, 0, 0, 0)}

    def test_of_a_worker_with_more_guards_adds_them_to_the_batch(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 8)
        [lease, _] = take(database)

        write(database, version_id, [success(lease, position) for position in range(4)])

        assert counters(database, batch_id) == {"injection": (4, 0, 0, 0), "names": (4, 0, 0, 0)}
        assert_consistent(database, batch_id)
        execute(database, "UPDATE slices SET state = 'queued', worker_id = NULL WHERE state = 'leased'")
        assert take(database, {}) == []  # the other rows must pass them too
        assert len(take(database)) == 1


class TestRetry:
    def retry(self, database: Database, version_id: int, results: Sequence[JobResult], batch_id: str) -> Lease:
        """Write these results, which end the batch, and claim its retried jobs."""
        write(database, version_id, results)
        retry_jobs(database, batch_id, RetrySelection(), SLICE)
        assert_consistent(database, batch_id)
        [lease] = take(database)
        return lease

    def test_takes_verdicts_back(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 2, guards=GUARDS)
        [lease] = take(database)

        again = self.retry(database, version_id, [success(lease, 0), failure(lease, 1)], batch_id)

        assert counters(database, batch_id) == {"injection": (1, 0, 0, 0), "names": (1, 0, 0, 0)}
        write(database, version_id, [success(again, 1)])
        assert counters(database, batch_id) == {"injection": (2, 0, 0, 0), "names": (2, 0, 0, 0)}
        assert_consistent(database, batch_id)

    def test_starts_from_the_original(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 2, guards=GUARDS)
        [lease] = take(database)
        lost = {"status": JobOutcome.FAILED, "output": None, "error_code": "model_error", "error_message": "No."}
        broken = [redacted(lease, 0, "[X]"), redacted(lease, 1, "[Y]", keep_original=False)]
        for result in broken:
            for name, value in lost.items():
                setattr(result, name, value)

        again = self.retry(database, version_id, broken, batch_id)

        inputs = [job.input for job in get_unanswered_jobs(database, [again])]
        assert inputs == [{"text": "text 0"}, {"text": "[Y]"}]
        write(database, version_id, [redacted(again, 0, "[Z]"), redacted(again, 1, "[Z]")])
        [kept, replaced] = jobs(database, batch_id)
        assert (kept.input, kept.original_input) == ({"text": "[Z]"}, {"text": "text 0"})
        assert (replaced.input, replaced.original_input) == ({"text": "[Z]"}, None)
        assert_consistent(database, batch_id)

    def test_that_redacts_nothing_restores_what_the_model_read(self, database: Database, version_id: int) -> None:
        batch_id = insert_batch(database, 1, guards=GUARDS)
        [lease] = take(database)
        broken = failure(
            lease, 0, verdicts=verdicts(names="redact"), redacted_input='{"text": "[X]"}', keep_original=True
        )

        again = self.retry(database, version_id, [broken], batch_id)
        write(database, version_id, [success(again, 0)])

        [job] = jobs(database, batch_id)
        assert (job.input, job.original_input, job.redacted) == ({"text": "text 0"}, None, False)
        assert_consistent(database, batch_id)
