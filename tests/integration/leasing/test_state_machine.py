"""Any order of claims, deaths, closing writes, early ends and replays leaves every batch sound, on both databases."""

import os
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, event, text

from models import db
from models.db import Database
from models.errors import TransactionConflict, UsageError
from models.guards.definition import Guard
from models.guards.verdict import Verdict
from models.lifecycle import termination
from models.settings import Settings
from models.states import AttemptOutcome, BatchStatus, JobOutcome, Termination
from models.vectors import from_numbers
from producer.batches.actions import cancel, delete, retry
from producer.batches.actions.retry import RetrySelection
from producer.submission import discard, streaming
from producer.submission.open_submission import OpenSubmission
from tests.factories import batch_rows
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    MODEL_VERSION,
    claimant_for,
    execute,
    expire_leases,
    get_unanswered_jobs,
    insert_batch,
)
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, DeferredSlice, JobResult, RetryableFailure
from worker.leasing.leases import Lease
from worker.loading import versions
from worker.maintenance import batch_endings, clock_steps

EXAMPLES, STEPS = int(os.environ.get("BATCHMILL_TEST_EXAMPLES", "25")), 40
SLICE = 4
MAX_ATTEMPTS = 3
CHUNK = 3  # open jobs that an early end closes at once, so that ends have a middle
WORKERS = st.sampled_from(["worker-1", "worker-2", "worker-3"])
OUTCOMES = st.lists(st.sampled_from([JobOutcome.SUCCEEDED, JobOutcome.SUCCEEDED, JobOutcome.FAILED]), max_size=SLICE)
UNSUCCESSFUL = st.sampled_from([JobOutcome.FAILED, JobOutcome.CANCELLED, JobOutcome.EXPIRED])
DAY_SECONDS = 86_400.0
ENDINGS = st.sampled_from([AttemptOutcome.CRASHED, AttemptOutcome.KILLED, AttemptOutcome.HUNG])

# The second worker has no guard, so it must not claim guarded batches.
GUARDS = {"g": Guard(on="input", action="redact", words=("X",), keep_original=True)}
GUARDS_OF_WORKERS: dict[str, dict[str, Guard]] = {"worker-1": GUARDS, "worker-2": {}, "worker-3": GUARDS}

RESULTS = """
SELECT position, seq, status, output, vector, error_code, slice_id, fencing_token, {old} AS old
FROM {table} WHERE batch_id = :id
"""


class Contended(Database):
    """A database that breaks off the next transactions at their commit, as if others had won a deadlock."""

    conflicts = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """As ever, or in vain."""
        with super().write() as connection:
            yield connection
            if self.conflicts:
                self.conflicts -= 1
                raise TransactionConflict("another transaction won")


class Mill(RuleBasedStateMachine):
    """What is known beside the database: which leases hold, and every result that was ever seen."""

    def __init__(self, database: Contended) -> None:
        super().__init__()
        self.database = database
        self.pipeline = f"p{uuid.uuid4().hex[:8]}"
        self.version_id = versions.register_version(database, MODEL_VERSION)
        self.batches: list[str] = []
        self.given: list[tuple[str, Lease]] = []  # every claim, to whom
        self.holding: dict[int, Lease] = {}
        self.lapsed: set[int] = set()
        self.closed: set[Lease] = set()
        self.seen: dict[tuple[str, int], Any] = {}  # by batch and seq
        self.replayed: set[tuple[str, int]] = set()
        self.made = 0

    # ---- rules

    @initialize(jobs=st.integers(5, 10), max_failures=st.sampled_from([None, 0, 2]))
    def begin(self, jobs: int, max_failures: int | None) -> None:
        self.submit(jobs, max_failures)
        self.claim("worker-1", jobs, suspect=False)

    @precondition(lambda self: len(self.batches) < 3)
    @rule(jobs=st.integers(1, 10), max_failures=st.sampled_from([None, None, 0, 2]))
    def submit(self, jobs: int, max_failures: int | None) -> None:
        self.add(jobs, max_failures=max_failures)

    @precondition(lambda self: len(self.batches) < 3)
    @rule(jobs=st.integers(1, 10), max_failures=st.sampled_from([None, 0]))
    def stream(self, jobs: int, max_failures: int | None) -> None:
        """A batch under a key, of which more is to be read in."""
        name = f"{self.pipeline}_{self.made}"
        self.add(jobs, max_failures=max_failures, ingesting=True, holder_id=name, idempotency_key=name)

    @precondition(lambda self: self.reading())
    @rule(data=st.data(), how=st.sampled_from(["whole", "broken off", "abandoned"]), conflicts=st.integers(0, 2))
    def end_reading(self, data: st.DataObject, how: str, conflicts: int) -> None:
        entry = data.draw(st.sampled_from(self.reading()))
        if how == "abandoned":
            execute(
                self.database, "UPDATE batches SET holder_heartbeat_at = created_at WHERE id = :id", id=entry.batch_id
            )
        with self.contended(conflicts):
            if how == "whole":
                streaming.end_ingestion(
                    self.database, entry, batch_rows.get_batch(self.database, entry.batch_id).total, None
                )
            elif how == "broken off":
                discard.abort_stream(self.database, entry, "the source is gone")
            else:
                batch_endings.end_abandoned_batches(self.database, DAY_SECONDS)
        key = batch_rows.get_batch(self.database, entry.batch_id).idempotency_key
        assert (key is None) == (how != "whole"), "a key is free exactly when nobody goes on with its batch"

    @rule(worker=WORKERS, room=st.integers(1, 12), suspect=st.booleans())
    def claim(self, worker: str, room: int, suspect: bool) -> None:
        claimant = claimant_for(worker, pipeline=self.pipeline, guards=GUARDS_OF_WORKERS[worker])
        for lease in claims.claim(self.database, claimant, room, SLICE, from_quarantine=suspect):
            assert lease.slice_id not in self.holding, "leased to two"
            assert claimant.guards or not batch_rows.get_batch(self.database, lease.batch_id).guarded
            self.given.append((worker, lease))
            self.holding[lease.slice_id] = lease

    @rule(worker=WORKERS)
    def renew(self, worker: str) -> None:
        own_leases = [lease for worker_id, lease in self.given if worker_id == worker]
        with self.database.write() as connection:
            lost = claims.renew(connection, self.database.sql, own_leases, LEASE_SECONDS)
        # Crash recovery may have finished a slice under its lease, by failing the job that crashed its workers.
        finished = {
            (row.id, row.fencing_token)
            for batch_id in self.batches
            for row in batch_rows.get_slices(self.database, batch_id)
            if row.state == "done"
        }
        crashed = {lease for lease in own_leases if not self.holds(lease) and lease not in self.closed}
        assert set(lost) == {lease for lease in crashed if (lease.slice_id, lease.fencing_token) not in finished}
        self.lapsed -= {lease.slice_id for lease in own_leases if self.holds(lease)}

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(list(self.holding.values())))
        expire_leases(self.database, lease)
        self.lapsed.add(lease.slice_id)

    @rule()
    def reclaim_lapsed(self) -> None:
        reclaim.reclaim_expired(self.database, MAX_ATTEMPTS)
        self.lose(self.lapsed)

    @rule(worker=WORKERS, ending=ENDINGS)
    def die(self, worker: str, ending: AttemptOutcome) -> None:
        reclaim.reclaim_from_worker(self.database, worker, ending, MAX_ATTEMPTS)
        self.lose({lease.slice_id for worker_id, lease in self.given if worker_id == worker and self.holds(lease)})

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def suspect(self, data: st.DataObject) -> None:
        """Two workers have died over everything of a batch: the next death buries single jobs."""
        batch_id = data.draw(st.sampled_from(self.batches))
        execute(self.database, "UPDATE slices SET crashes = 2 WHERE batch_id = :id AND state <> 'done'", id=batch_id)

    @rule(worker=WORKERS, conflicts=st.integers(1, 3))
    def die_beside_others(self, worker: str, conflicts: int) -> None:
        """Others' transactions win, again and again, and what was done is undone as often."""
        with self.contended(conflicts):
            self.die(worker, AttemptOutcome.CRASHED)

    @rule()
    def step_clock_back(self) -> None:
        """By a day: every moment that lay ahead lies a day further ahead. Leases and backoffs are as good as before."""
        sql = self.database.sql
        for column, state in (("lease_expires_at", "leased"), ("available_at", "queued")):
            statement = (
                f"UPDATE slices SET {column} = {sql.now_plus_seconds} WHERE state = '{state}' AND {column} > {sql.now}"
            )
            execute(self.database, statement, seconds=DAY_SECONDS)

        clock_steps.reset_future_timestamps(self.database, Settings(lease_seconds=LEASE_SECONDS))

        with self.database.read() as connection:
            seconds = text(
                f"SELECT count(*) FROM slices WHERE coalesce(lease_expires_at, available_at) > {sql.now_plus_seconds}"
            )
            assert connection.scalar(seconds, {"seconds": LEASE_SECONDS + 1}) == 0

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), outcomes=OUTCOMES)
    def usurp(self, data: st.DataObject, outcomes: list[JobOutcome]) -> None:
        """A lease runs out, another takes the slice, and the former holder wakes up and writes."""
        self.lapse(data)
        stale = self.holding[sorted(self.lapsed)[0]]
        self.reclaim_lapsed()
        self.claim("worker-3", 100, suspect=False)
        answers, _ = self.answers(stale, outcomes)
        self.write(stale, answers, finished=True)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), outcomes=OUTCOMES)
    def close(self, data: st.DataObject, outcomes: list[JobOutcome]) -> None:
        """As many of the slice's open jobs as there are outcomes; by whoever once held it."""
        lease = self.some_lease(data)
        answers, remaining = self.answers(lease, outcomes)
        self.write(lease, answers, finished=remaining == 0)

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def close_all(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(list(self.holding.values())))
        self.write(lease, self.answers(lease, [JobOutcome.SUCCEEDED] * 100)[0], finished=True)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), outcomes=OUTCOMES)
    def put_off(self, data: st.DataObject, outcomes: list[JobOutcome]) -> None:
        """Answer some, and have the others tried again."""
        lease = self.some_lease(data)
        answers, _ = self.answers(lease, outcomes)
        answered = {answer.position for answer in answers}
        later = [job.position for job in get_unanswered_jobs(self.database, [lease]) if job.position not in answered]
        if later:
            deferrals = tuple(RetryableFailure(lease, position, "unavailable", "Busy.") for position in later)
            self.write(lease, answers, finished=False, put_off=[DeferredSlice(lease, -1.0, deferrals)])

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        own_leases = [lease for worker_id, lease in self.given if worker_id == worker]
        with self.database.write() as connection:
            released = claims.release(connection, own_leases)
        assert set(released) == {lease for lease in own_leases if self.holds(lease)}
        self.lose({lease.slice_id for lease in released})

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), ending=st.sampled_from(Termination), done=st.booleans())
    def end_early(self, data: st.DataObject, ending: Termination, done: bool) -> None:
        """As a user, a deadline or a broken model does it; or whoever does it dies after the first chunk."""
        batch_id = data.draw(st.sampled_from(self.batches))
        if not done:
            termination.terminate(self.database, batch_id, ending, "code", "message")
        elif ending is Termination.EXPIRED:
            execute(self.database, "UPDATE batches SET expires_at = created_at WHERE id = :id", id=batch_id)
            batch_endings.expire_batches(self.database)
        else:
            with suppress(UsageError):
                cancel.cancel(self.database, batch_id)
            assert BatchStatus(self.status(batch_id)).has_ended

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), conflicts=st.integers(0, 2))
    def delete(self, data: st.DataObject, conflicts: int) -> None:
        """What was claimed of it is nobody's from now on, whatever is submitted next."""
        batch_id = data.draw(st.sampled_from(self.batches))
        with self.contended(conflicts):
            delete.delete(self.database, batch_id, cancel=True)
        self.batches.remove(batch_id)
        self.lose({key for key, lease in self.holding.items() if lease.batch_id == batch_id})
        self.closed = {lease for lease in self.closed if lease.batch_id != batch_id}
        self.replayed = {key for key in self.replayed if key[0] != batch_id}
        self.seen = {key: row for key, row in self.seen.items() if key[0] != batch_id}

    @rule()
    def finish_ends(self) -> None:
        batch_endings.finish_terminations(self.database, {})
        assert not any(self.status(batch_id) == BatchStatus.CANCELLING for batch_id in self.batches)

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), outcomes=st.sets(UNSUCCESSFUL, min_size=1))
    def replay(self, data: st.DataObject, outcomes: set[JobOutcome]) -> None:
        batch_id = data.draw(st.sampled_from(self.batches))
        before = self.rows(batch_id)
        try:
            retry.retry_jobs(self.database, batch_id, RetrySelection(tuple(outcomes)), SLICE)
        except UsageError:
            return
        self.replayed |= {(batch_id, row.seq) for row in before if not row.old and row.status in outcomes}

    # ---- what must hold after each

    @invariant()
    def is_sound(self) -> None:
        leased = set()
        for batch_id in self.batches:
            slices = batch_rows.get_slices(self.database, batch_id)
            self.check(batch_id, self.rows(batch_id), slices)
            leased |= {(row.id, row.fencing_token) for row in slices if row.state == "leased"}
        self.holding = {
            key: lease for key, lease in self.holding.items() if self.status(lease.batch_id) == BatchStatus.IN_PROGRESS
        }
        self.lapsed &= set(self.holding)
        assert leased == {(lease.slice_id, lease.fencing_token) for lease in self.holding.values()}

    def check(self, batch_id: str, rows: Sequence[Any], slices: Sequence[Any]) -> None:
        batch, now = batch_rows.get_batch(self.database, batch_id), [row for row in rows if not row.old]
        counts = Counter(row.status for row in now)
        assert {name: getattr(batch, name) for name in JobOutcome} == {name: counts[name] for name in JobOutcome}
        assert sorted(row.seq for row in rows) == list(range(1, batch.last_seq + 1))
        self.check_guards(batch_id)
        runs = [
            index
            for row in slices
            if row.state != "done"
            for index in range(row.start_position, row.start_position + row.size)
        ]
        todo = set(range(batch.total)) - {row.position for row in now}
        assert len({row.position for row in now}) == len(now)
        if batch.status == BatchStatus.IN_PROGRESS:
            assert todo or batch.ingesting, "it has ended, and does not say so"
            assert {index: runs.count(index) for index in todo} == dict.fromkeys(todo, 1)
            if not any(key[0] == batch_id for key in self.replayed):  # that may put back what was cancelled alone
                assert batch.max_failures is None or batch.failed <= batch.max_failures
        else:
            assert runs == []
            assert batch.status == BatchStatus.CANCELLING or not todo
        self.remember(batch_id, rows)

    def check_guards(self, batch_id: str) -> None:
        """Each verdict of a result is counted, and no other."""
        query = "SELECT guard, passed, redacted, blocked FROM batch_guards WHERE batch_id = :id"
        with self.database.read() as connection:
            counters = {row.guard: row[1:] for row in connection.execute(text(query), {"id": batch_id})}
        results = batch_rows.get_results(self.database, batch_id)
        counts = Counter((verdict["guard"], verdict["action"]) for row in results for verdict in row.guards or ())
        assert {guard for guard, _ in counts} <= set(counters)
        assert counters == {
            guard: tuple(counts[guard, action] for action in ("pass", "redact", "fail")) for guard in counters
        }

    def remember(self, batch_id: str, rows: Sequence[Any]) -> None:
        """No result changes; only a replay takes one back, and keeps it."""
        found = {(batch_id, row.seq): row for row in rows}
        for key, row in self.seen.items():
            if key[0] == batch_id:
                assert found[key][:7] == row[:7]
        assert {key for key, row in found.items() if row.old} == {key for key in self.replayed if key[0] == batch_id}
        self.seen |= found

    def teardown(self) -> None:
        for batch_id in self.batches:
            batch_rows.assert_consistent(self.database, batch_id)
            execute(self.database, "DELETE FROM batches WHERE id = :id", id=batch_id)

    # ---- how

    def add(self, jobs: int, **columns: Any) -> None:
        self.batches.append(
            insert_batch(
                self.database,
                jobs,
                slice_size=SLICE,
                pipeline=self.pipeline,
                id=f"{self.pipeline}_{self.made}",
                guards=GUARDS if self.made % 2 else {},
                **columns,
            )
        )
        self.made += 1

    def reading(self) -> list[OpenSubmission]:
        """The batches that are still read in, in their submitters' hands."""
        rows = [batch_rows.get_batch(self.database, batch_id) for batch_id in self.batches]
        return [
            OpenSubmission(row.id, row.holder_id, row.idempotency_key)
            for row in rows
            if row.ingesting and row.status == BatchStatus.IN_PROGRESS
        ]

    @contextmanager
    def contended(self, conflicts: int) -> Iterator[None]:
        """Others win so many times."""
        self.database.conflicts = conflicts
        yield
        self.database.conflicts = 0

    def holds(self, lease: Lease) -> bool:
        return self.holding.get(lease.slice_id) == lease

    def lose(self, slice_ids: set[int]) -> None:
        for slice_id in slice_ids:
            self.holding.pop(slice_id, None)
        self.lapsed -= slice_ids

    def some_lease(self, data: st.DataObject) -> Lease:
        """One that holds, or one that was lost and whose holder has not heard of it."""
        alive = list(self.holding.values())
        crashed = [lease for _, lease in self.given if not self.holds(lease)]
        lease: Lease = data.draw(st.sampled_from([one for one in (alive, crashed) if one]).flatmap(st.sampled_from))
        return lease

    def answers(self, lease: Lease, outcomes: Sequence[JobOutcome]) -> tuple[list[JobResult], int]:
        """Answers to the first open jobs of the slice, and how many jobs are left open."""
        jobs = get_unanswered_jobs(self.database, [lease])
        guards = self.guards_for(lease)
        answers = []
        for job, outcome in zip(jobs, outcomes, strict=False):
            is_blocked = outcome is JobOutcome.FAILED and job.position % 2
            is_redacted = not is_blocked and job.position % 3 == 0
            ending: dict[str, Any] = {"output": f'"{lease.fencing_token}"'}
            if job.position % 2:
                ending = {"vector": from_numbers([lease.fencing_token, job.position])}
            if outcome is JobOutcome.FAILED:
                ending = {"error_code": "model_error", "error_message": "No."}
            answer = JobResult(lease, job.position, outcome, **ending)
            if guards:
                answer.verdicts = [Verdict("g", "input", "fail" if is_blocked else "redact" if is_redacted else "pass")]
                answer.redacted_input = '{"text": "[X]"}' if is_redacted else None
                answer.keep_original = bool(job.position % 2)
            answers.append(answer)
        return answers, len(jobs) - len(answers)

    def write(
        self, lease: Lease, answers: list[JobResult], *, finished: bool, put_off: Sequence[DeferredSlice] = ()
    ) -> None:
        is_held = self.holds(lease)
        with self.database.write() as connection:
            result = commit.commit_results(
                connection,
                BatchCommit(
                    [lease],
                    answers,
                    {lease.slice_id} if finished else set(),
                    self.version_id,
                    deferred_slices=put_off,
                    guards=self.guards_for(lease),
                ),
            )
        assert result.results_written == (len(answers) if is_held else 0), "a write counts exactly when the lease holds"
        assert is_held or result.lost_slice_ids == {lease.slice_id}
        if is_held and (finished or put_off):
            self.lose({lease.slice_id})
            self.closed |= {lease} if finished else set()

    def guards_for(self, lease: Lease) -> Mapping[str, Guard]:
        """The guards of the worker that has this lease, or had it."""
        return next(GUARDS_OF_WORKERS[worker] for worker, given in self.given if given == lease)

    def status(self, batch_id: str) -> str:
        return str(batch_rows.get_batch(self.database, batch_id).status)

    def rows(self, batch_id: str) -> list[Any]:
        """Results and what replays took back, in order of `seq`."""
        query = " UNION ALL ".join(
            RESULTS.format(table=table, old=old) for table, old in (("results", 0), ("superseded_results", 1))
        )
        # A set operation's columns have the types of the first, so JSON comes as each driver gives it.
        with self.database.read() as connection:
            return list(connection.execute(text(f"{query} ORDER BY seq"), {"id": batch_id}))


@pytest.fixture
def database(database_url: str) -> Iterator[Contended]:
    database = Contended(database_url)
    unsynced = {"sqlite": "PRAGMA synchronous = OFF", "postgresql": "SET synchronous_commit = off"}
    statement = unsynced[database.engine.dialect.name]

    @event.listens_for(database.engine, "connect")
    def hurry(driver: Any, _record: Any) -> None:
        """No power is cut here, so thousands of commits need not wait for the disk."""
        driver.execute(statement)
        driver.commit()

    yield database
    database.close()


def test_any_order_of_events_leaves_every_batch_sound(database: Contended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "CHUNK_JOBS", CHUNK)
    monkeypatch.setattr(db, "RETRY_BASE_SECONDS", 0.0)
    run_state_machine_as_test(
        lambda: Mill(database),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
