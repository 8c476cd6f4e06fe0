"""Batches that are worked on while more of them is read in: sound at every moment, whatever happens in between.

A source's own steps stand between its rows, so what happens meanwhile happens at a known moment.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.db import Database
from models.errors import BatchmillError, Unreachable, UnreadableSource, UsageError
from models.lifecycle import termination
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.states import JobOutcome, Termination
from producer.batches import views
from producer.batches.actions import retry
from producer.batches.actions.cancel import cancel
from producer.batches.actions.retry import RetrySelection
from producer.readers.rows import Problem, Row, Source
from producer.results import pages
from producer.submission import submit
from producer.submission.ingestion import SubmitResult
from producer.submission.request import SubmitRequest
from tests.factories.batch_rows import (
    MODEL_VERSION,
    assert_consistent,
    claimant_for,
    execute,
    expire_leases,
    get_batch,
    get_slices,
    get_unanswered_jobs,
)
from worker.leasing import commit, reclaim
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions
from worker.maintenance import batch_endings

PIPELINE = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}["sentiment-analysis"]
SLICE = 2
WHO = claimant_for(pipeline=PIPELINE.name, task=PIPELINE.task, model=PIPELINE.model, revision=PIPELINE.revision)

Step = Callable[[], object]


@pytest.fixture(autouse=True)
def slow_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is a chunk of its own, and is in before the next is asked for."""
    monkeypatch.setattr(submit, "STREAM_CHUNK_SECONDS", 0.0)


def accept(database: Database, items: Sequence[str | Problem | Step], **fields: object) -> SubmitResult:
    """A batch of texts and problems; what else there is, is done between them."""
    request = SubmitRequest.create(PIPELINE, **{"on_invalid": "fail-row", **fields})  # type: ignore[arg-type]
    return submit.submit(database, SLICE, request, Source("a.jsonl", "line", _rows(items)))


def _rows(items: Sequence[str | Problem | Step]) -> Iterator[Row | Problem]:
    for where, item in enumerate(items, start=1):
        if isinstance(item, str):
            yield Row(where, None, item)
        elif isinstance(item, Problem):
            yield item
        else:
            item()


def the_batch(database: Database) -> str:
    [only] = views.list_batches(database, 10)
    assert_consistent(database, only.id)
    return only.id


def work_off(database: Database, failing: str = "", most: int = 1000) -> int:
    """Have a worker answer what there is; returns how many jobs that were."""
    version_id, done = versions.register_version(database, MODEL_VERSION), 0
    while done < most:
        leases = claims.claim(database, WHO, min(1000, most), SLICE) or claims.claim(
            database, WHO, 1, SLICE, from_quarantine=True
        )
        if not leases:
            break
        for lease in leases:
            answers = [
                JobResult(lease, job.position, JobOutcome.FAILED, error_code="model_error", error_message="No.")
                if failing == "*" or job.input["text"] in failing.split()
                else JobResult(lease, job.position, JobOutcome.SUCCEEDED, f'"{job.input["text"]}"')
                for job in get_unanswered_jobs(database, [lease])
            ]
            with database.write() as connection:
                commit.commit_results(connection, BatchCommit([lease], answers, {lease.slice_id}, version_id))
            done += len(answers)
    return done


class TestWhileItIsReadIn:
    def test_results_land_and_the_batch_does_not_end(self, database: Database) -> None:
        snapshots = []

        def look() -> None:
            assert work_off(database) == 2
            batch = views.get_batch(database, the_batch(database))
            snapshots.append(
                (batch.status, batch.ingesting, batch.counts.total, batch.counts.succeeded, batch.counts.unanswered)
            )

        submission = accept(database, ["a", "b", look, "c", "d", look, "e"])

        assert snapshots == [("in_progress", True, 2, 2, 0), ("in_progress", True, 4, 4, 0)]
        batch = views.get_batch(database, submission.batch_id)
        assert (batch.status, batch.ingesting, batch.counts.total, submission.slices) == ("in_progress", False, 5, 5)
        work_off(database)
        assert views.get_batch(database, submission.batch_id).status == "completed"
        assert [row.output for row in pages.iter_by_position(database, submission.batch_id)] == [
            "a",
            "b",
            "c",
            "d",
            "e",
        ]
        assert_consistent(database, submission.batch_id)

    def test_all_answered_by_the_source_s_end_it_is_completed_then(self, database: Database) -> None:
        submission = accept(database, ["a", "b", lambda: work_off(database)])

        batch = views.get_batch(database, submission.batch_id)
        assert (batch.status, batch.counts.succeeded, batch.ingesting) == ("completed", 2, False)
        assert batch.timestamps["completed_at"] is not None
        assert_consistent(database, submission.batch_id)

    def test_rows_that_can_t_be_jobs_take_their_turn_in_seq(self, database: Database) -> None:
        bad = [Problem(where, "is bad") for where in range(4)]

        submission = accept(
            database, [bad[0], "a", lambda: work_off(database), bad[1], "b", lambda: work_off(database), bad[2], bad[3]]
        )

        rows = list(pages.iter_results(database, submission.batch_id))
        assert [(row.seq, row.position, row.status) for row in rows] == [
            (1, 0, "failed"),
            (2, 1, "succeeded"),
            (3, 2, "failed"),
            (4, 3, "succeeded"),
            (5, 4, "failed"),
            (6, 5, "failed"),
        ]
        assert submission.failed == 4
        assert views.get_batch(database, submission.batch_id).status == "completed"
        assert_consistent(database, submission.batch_id)

    def test_of_failures_alone_there_is_nothing_to_claim(self, database: Database) -> None:
        submission = accept(database, [Problem(1, "bad"), Problem(2, "bad")])

        assert views.get_batch(database, submission.batch_id).status == "completed"
        assert get_slices(database, submission.batch_id) == []
        assert_consistent(database, submission.batch_id)

    def test_wakeups_are_sent_once_there_is_something(self, database: Database) -> None:
        announcements: list[SubmitResult] = []
        request = SubmitRequest.create(PIPELINE, on_invalid="fail-row")
        source = Source("a.jsonl", "line", _rows(["a", "b", "c"]))

        submission = submit.submit(database, SLICE, request, source, on_slices_queued=announcements.append)

        assert [result.slices for result in announcements] == [1, 1, 1]
        assert {result.batch_id for result in announcements} == {submission.batch_id}

    @pytest.mark.parametrize("fields", [{"on_invalid": "reject"}, {"reuse": True}])
    def test_nothing_runs_where_a_row_may_refuse_it_or_results_are_looked_for(
        self, database: Database, fields: dict[str, object]
    ) -> None:
        accept(database, ["a", "b", lambda: _expect(work_off(database) == 0), "c"], **fields)

        assert views.get_batch(database, the_batch(database)).counts.total == 3

    def test_a_replay_waits_for_the_end(self, database: Database) -> None:
        def again() -> None:
            work_off(database, failing="a")
            with pytest.raises(UsageError, match="wait until it has ended"):
                retry.retry_jobs(database, the_batch(database), RetrySelection(), SLICE)

        submission = accept(database, ["a", again, "b", lambda: work_off(database)])

        assert retry.retry_jobs(database, submission.batch_id, RetrySelection(), SLICE).jobs == 1
        work_off(database)
        assert views.get_batch(database, submission.batch_id).status == "completed"
        assert_consistent(database, submission.batch_id)


class TestAnEndBeforeTheSourceS:
    @pytest.mark.parametrize("kind", ["cancel", "deadline", "broken"])
    def test_is_heard_of_and_what_is_answered_stays(self, database: Database, kind: str) -> None:
        def end() -> None:
            work_off(database, most=1)
            batch_id = the_batch(database)
            if kind == "cancel":
                cancel(database, batch_id)
            elif kind == "deadline":
                execute(database, "UPDATE batches SET expires_at = created_at")
                batch_endings.expire_batches(database)
                termination.finish_termination(database, batch_id)
            else:
                termination.terminate(database, batch_id, Termination.FAILED, "model_error", "no weights")
                termination.finish_termination(database, batch_id)

        with pytest.raises(BatchmillError, match="ended while it was read in; see: batchmill show"):
            accept(database, ["a", "b", "c", end, "d", "e"])

        batch = views.get_batch(database, the_batch(database))
        assert batch.status == {"cancel": "cancelled", "deadline": "expired", "broken": "failed"}[kind]
        assert (batch.counts.total, batch.counts.succeeded, batch.counts.unanswered, batch.ingesting) == (
            3,
            1,
            0,
            False,
        )

    def test_by_too_many_failures(self, database: Database) -> None:
        with pytest.raises(BatchmillError, match="ended while it was read in"):
            accept(database, ["a", "b", lambda: work_off(database, failing="a b"), "c", "d"], max_failures=1)

        batch = views.get_batch(database, the_batch(database))
        assert (batch.status, batch.error_code) == ("failed", "too_many_failures")

    def test_a_share_of_failures_counts_at_the_source_s_end(self, database: Database) -> None:
        submission = accept(
            database, ["a", "b", lambda: work_off(database, failing="a b"), "c", "d", "e"], max_failures="30%"
        )

        batch = views.get_batch(database, submission.batch_id)
        assert (batch.status, batch.error_code, batch.counts.failed, batch.counts.cancelled) == (
            "failed",
            "too_many_failures",
            2,
            3,
        )
        assert_consistent(database, submission.batch_id)

    def test_a_share_that_is_kept(self, database: Database) -> None:
        submission = accept(
            database, ["a", "b", lambda: work_off(database, failing="a"), "c", "d", "e"], max_failures="30%"
        )

        assert get_batch(database, submission.batch_id).max_failures == 1
        work_off(database)
        assert views.get_batch(database, submission.batch_id).status == "completed"


def _expect(holds: bool) -> None:
    assert holds


def _break(error: BaseException) -> Step:
    def breaks() -> None:
        raise error

    return breaks


class TestASourceThatBreaksOff:
    @pytest.mark.parametrize("error", [UnreadableSource("a.jsonl ends in the middle"), Unreachable("a.jsonl is gone")])
    def test_keeps_what_was_read_and_one_failure_for_the_rest(self, database: Database, error: Exception) -> None:
        submission = accept(database, ["a", lambda: work_off(database), "b", "c", _break(error), "d"])

        work_off(database)
        batch = views.get_batch(database, submission.batch_id)
        assert (batch.status, batch.counts.total, batch.counts.succeeded, batch.counts.failed) == ("completed", 4, 3, 1)
        assert submission.source_failure == str(error)
        [failed] = pages.iter_failed(database, submission.batch_id)
        assert (failed.position, failed.error_code) == (3, "source_failed")
        assert str(failed.error_message).endswith(f"the source broke off: {error}")
        assert_consistent(database, submission.batch_id)

    @pytest.mark.parametrize(
        "error", [KeyboardInterrupt(), OSError(), ValueError("a NUL \0, half a pair \ud800, and more" + "e" * 9_000)]
    )
    def test_ends_the_batch_which_keeps_what_is_answered(self, database: Database, error: BaseException) -> None:
        with pytest.raises(type(error)):
            accept(database, ["a", lambda: work_off(database), "b", _break(error), "c"])

        batch = views.get_batch(database, the_batch(database))
        assert (batch.status, batch.error_code) == ("failed", "source_failed")
        assert (batch.counts.total, batch.counts.succeeded, batch.counts.failed) == (2, 1, 1)

    def test_before_its_first_chunk_leaves_nothing(self, database: Database) -> None:
        with pytest.raises(OSError, match="gone"):
            accept(database, [_break(OSError("gone")), "a"])

        assert views.list_batches(database, 10) == []

    def test_with_a_key_it_goes_on_where_it_stopped(self, database: Database) -> None:
        def dies() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            accept(database, ["a", "b", lambda: work_off(database), dies], idempotency_key="k")
        batch = views.get_batch(database, the_batch(database))
        assert (batch.status, batch.ingesting, batch.counts.succeeded) == ("in_progress", True, 2)
        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")

        again = accept(database, ["a", "b", "c"], idempotency_key="k")
        known = accept(database, ["a", "b", "c"], idempotency_key="k")

        assert (again.batch_id, again.already_ingested, again.jobs) == (batch.id, 2, 3)
        assert (known.batch_id, known.existing_status) == (batch.id, "in_progress")
        assert work_off(database) == 1
        assert views.get_batch(database, batch.id).status == "completed"
        assert_consistent(database, batch.id)

    def test_with_a_key_what_can_t_be_read_is_let_go(self, database: Database) -> None:
        accept(database, ["a", _break(UnreadableSource("torn")), "b"], idempotency_key="k")

        mended = accept(database, ["b", "a"], idempotency_key="k")

        assert [batch.counts.failed for batch in views.list_batches(database, 10)] == [0, 1]
        assert mended.existing_status is None

    def test_ended_early_it_is_known_by_the_rows_that_it_has(self, database: Database) -> None:
        with pytest.raises(BatchmillError, match="ended while it was read in"):
            accept(database, ["a", lambda: cancel(database, the_batch(database)), "b"], idempotency_key="k")

        assert accept(database, ["a", "b"], idempotency_key="k").existing_status == "cancelled"

    def test_taken_over_the_one_that_was_taken_for_dead_has_lost(self, database: Database) -> None:
        def taken_over() -> None:
            execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01', holder_id = 'elsewhere:1:x'")
            accept(database, ["a", "b"], idempotency_key="k")

        with pytest.raises(BatchmillError, match="another process submits"):
            accept(database, ["a", taken_over, "b", "c"], idempotency_key="k")

        work_off(database)
        batch = views.get_batch(database, the_batch(database))
        assert (batch.status, batch.counts.succeeded) == ("completed", 2)


class TestASubmitterThatIsGone:
    @pytest.mark.parametrize(("key", "silent", "ends"), [(None, 700, True), (None, 60, False), ("k", 700, False)])
    def test_the_batch_ends_when_nobody_will_go_on(
        self, database: Database, key: str | None, silent: int, ends: bool
    ) -> None:
        effects = []

        def silence() -> None:
            work_off(database)
            with database.write() as connection:
                connection.exec_driver_sql(
                    "UPDATE batches SET holder_heartbeat_at = "
                    + database.sql.now_plus_seconds.replace(":seconds", str(-silent))
                )
            effects.append(batch_endings.end_abandoned_batches(database, 86_400.0))

        items: list[str | Problem | Step] = ["a", "b", silence, "c"]
        if ends:
            with pytest.raises(BatchmillError, match="ended while it was read in"):
                accept(database, items, idempotency_key=key)
        else:
            accept(database, items, idempotency_key=key)

        assert [bool(effect) for effect in effects] == [ends]
        batch = views.get_batch(database, the_batch(database))
        assert (batch.status, batch.error_code) == (
            ("failed", "submission_abandoned") if ends else ("in_progress", None)
        )

    def test_the_end_of_the_source_comes_first(self, database: Database) -> None:
        submission = accept(database, ["a", "b"])
        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")

        assert batch_endings.end_abandoned_batches(database, 1.0) == ""
        assert (
            termination.terminate(
                database, submission.batch_id, Termination.FAILED, None, None, only_while_ingesting=True
            )
            is None
        )


STEPS = st.sampled_from(["row", "row", "row", "bad", "work", "some", "fail", "lapse", "cancel", "replay", "finish"])


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@given(plan=st.lists(STEPS, min_size=3, max_size=14), allowed=st.sampled_from([None, None, 1, "40%"]))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_order_of_events_is_sound(
    request: pytest.FixtureRequest, kind: str, plan: list[str], allowed: str | int | None
) -> None:
    database = Database(request.getfixturevalue(f"{kind}_url"))
    try:
        _carry_out(database, plan, allowed)
    finally:
        database.close()


def _carry_out(database: Database, plan: list[str], allowed: str | int | None) -> None:
    for table in ("results", "superseded_results", "jobs", "slices", "attempts", "batches"):
        execute(database, f"DELETE FROM {table}")
    items: list[str | Problem | Step] = ["first"]
    for number, step in enumerate(plan):
        items.append(f"text {number}" if step == "row" else _made(database, step, number))
    try:
        accept(database, items, max_failures=allowed)
    except BatchmillError as error:
        assert "ended while it was read in" in str(error)  # noqa: PT017 - whether it is raised depends on the plan
    batch_id = the_batch(database)
    for status in ("validating", "cancelling"):
        assert views.get_batch(database, batch_id).status != status
    work_off(database)
    batch = views.get_batch(database, the_batch(database))
    assert batch.status.has_ended
    assert batch.counts.unanswered == 0


def _made(database: Database, step: str, number: int) -> Problem | Step:
    if step == "bad":
        return Problem(number, "is bad")
    return lambda: (_act(database, step, the_batch(database), number), the_batch(database))


def _act(database: Database, step: str, batch_id: str, number: int) -> None:
    match step:
        case "work":
            work_off(database)
        case "some":
            work_off(database, most=1)
        case "fail":
            work_off(database, failing="*", most=2)
        case "lapse":
            expire_leases(database, *claims.claim(database, WHO, 2, SLICE))
            reclaim.reclaim_expired(database, 3)
        case "cancel" if number % 3 == 0:
            termination.terminate(database, batch_id, Termination.CANCELLED, None, None)
        case "finish":
            batch_endings.finish_terminations(database, {})
        case "replay":
            with suppress(UsageError):
                retry.retry_jobs(database, batch_id, RetrySelection((JobOutcome.CANCELLED, JobOutcome.FAILED)), SLICE)
