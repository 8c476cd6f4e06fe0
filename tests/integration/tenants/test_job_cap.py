"""The cap on a tenant's unanswered jobs: exact, for every way to submit, and nothing is lost where it refuses."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import batchmill
from batchmill import Client
from models.db import Database
from models.errors import BatchmillError, SettingsError, TooManyJobs
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.settings import Settings
from models.states import JobOutcome
from producer.batches import views
from producer.batches.actions.cancel import cancel
from producer.batches.actions.retry import RetrySelection, retry_jobs
from producer.readers.items import open_items
from producer.readers.limits import DEFAULT_LIMITS
from producer.readers.rows import Problem, Row, Source
from producer.submission import chunks, open_submission, submit
from producer.submission.repairs.repair import repair_jobs
from producer.submission.repairs.repair_columns import RepairColumns
from producer.submission.request import SubmitRequest
from tests import fake_worker
from tests.factories.batch_rows import assert_consistent
from tests.threads import run_concurrently

ROOT = Path(__file__).parents[3]
SAMPLE = "sample-sentiment-analysis"
PIPELINE = next(pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == SAMPLE)


def accept(database: Database, jobs: int, cap: int | None = 10, tenant: str = "acme", **fields: Any) -> str:
    request = SubmitRequest.create(PIPELINE, tenant=tenant, max_unanswered_jobs=cap, **fields)
    rows: Iterator[Row | Problem] = (Row(line, None, f"text {line}") for line in range(1, jobs + 1))
    return submit.submit(database, 4, request, Source("a.jsonl", "line", rows)).batch_id


def count_batches(database: Database) -> int:
    return len(views.list_batches(database, 100))


def test_a_batch_fits_exactly_or_nothing_of_it_is_stored(database: Database) -> None:
    accept(database, 6)

    with pytest.raises(TooManyJobs, match="tenant acme has 6 unanswered jobs and may have 10, so 5 more") as caught:
        accept(database, 5)
    assert caught.value.retry_after_seconds > 0
    assert count_batches(database) == 1
    accept(database, 4)
    with pytest.raises(TooManyJobs, match="so one more must wait"):
        accept(database, 1)
    assert count_batches(database) == 2


def test_other_tenants_and_those_without_a_cap_are_not_concerned(database: Database) -> None:
    accept(database, 10)

    accept(database, 10, tenant="other")
    accept(database, 10, cap=None)


def test_answered_and_cancelled_jobs_make_room(database: Database) -> None:
    first, second = accept(database, 5), accept(database, 5)
    fake_worker.write_results(database, first, [(0, [{"label": "A", "score": 0.5}])])
    accept(database, 1)
    cancel(database, second)

    accept(database, 5)


def test_two_submissions_at_a_time_never_take_the_same_room(database: Database) -> None:
    accept(database, 4)

    def try_to_accept() -> str | None:
        try:
            return accept(database, 4)
        except TooManyJobs:
            return None

    accepted = [batch_id for batch_id in run_concurrently(*[try_to_accept] * 4) if batch_id]

    assert len(accepted) == 1
    assert sum(batch.counts.unanswered for batch in views.list_batches(database, 9)) == 8


def test_under_a_key_the_same_submission_goes_on_when_there_is_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_submission, "HOLDER_TIMEOUT_SECONDS", 0.1)
    first = accept(database, 8)
    with pytest.raises(TooManyJobs):
        accept(database, 5, idempotency_key="nightly")
    cancel(database, first)

    batch_id = accept(database, 5, idempotency_key="nightly")

    assert views.get_batch(database, batch_id).counts.total == 5
    assert_consistent(database, batch_id)


def test_a_batch_that_runs_while_it_is_read_fails_where_there_is_no_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)

    with pytest.raises(TooManyJobs):
        accept(database, 30, on_invalid="fail-row")

    [batch] = views.list_batches(database, 9)
    assert (batch.status, batch.counts.total, batch.counts.unanswered) == ("failed", 8, 0)
    assert "may have 10" in (batch.error_message or "")
    assert_consistent(database, batch.id)


@pytest.mark.parametrize("fields", [{}, {"idempotency_key": "nightly"}])
def test_a_batch_that_never_fits_is_not_read_to_its_end(
    database: Database, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    read: list[int] = []

    def read_rows() -> Iterator[Row | Problem]:
        for line in range(1, 1000):
            read.append(line)
            yield Row(line, None, f"text {line}")

    request = SubmitRequest.create(PIPELINE, tenant="acme", max_unanswered_jobs=10, **fields)
    with pytest.raises(TooManyJobs, match="may have 10 unanswered jobs, and this batch has more; split it"):
        submit.submit(database, 4, request, Source("a.jsonl", "line", read_rows()))

    assert len(read) < 30
    assert count_batches(database) == 0


def test_invalid_rows_take_no_room(database: Database) -> None:
    request = SubmitRequest.create(PIPELINE, tenant="acme", max_unanswered_jobs=2, on_invalid="fail-row")
    rows: list[Row | Problem] = [Problem(line, "it is empty", "empty_text") for line in range(1, 9)]
    source = Source("a.jsonl", "line", iter([*rows, Row(9, None, "good"), Row(10, None, "fine")]))

    batch_id = submit.submit(database, 4, request, source).batch_id

    assert views.get_batch(database, batch_id).counts.unanswered == 2


def test_a_retry_needs_room_too(database: Database) -> None:
    first = accept(database, 10)
    cancel(database, first)
    accept(database, 6)
    selection = RetrySelection((JobOutcome.CANCELLED,))

    with pytest.raises(TooManyJobs, match="so 10 more"):
        retry_jobs(database, first, selection, 4, cap_of=lambda _tenant: 10)
    assert views.get_batch(database, first).status == "cancelled"
    assert_consistent(database, first)
    assert retry_jobs(database, first, selection, 4, cap_of=lambda _tenant: 16).jobs == 10


def test_a_repair_needs_room_too(database: Database) -> None:
    first = accept(database, 2)
    fake_worker.write_results(database, first, [(0, "model_error"), (1, [{"label": "A", "score": 0.5}])])
    fake_worker.end_batch(database, first)
    accept(database, 10)
    columns = RepairColumns.for_batch(database, first)

    def repair(cap: int) -> int:
        source = open_items([{"position": 0, "text": "better"}], None, columns, DEFAULT_LIMITS)
        return repair_jobs(database, first, source, 4, cap_of=lambda _tenant: cap).jobs

    with pytest.raises(TooManyJobs):
        repair(10)
    assert views.get_batch(database, first).status == "completed"
    assert repair(11) == 1


class TestSettings:
    def test_of_all_and_of_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_MAX_UNANSWERED_JOBS", "5")
        monkeypatch.setenv("BATCHMILL_TENANTS__ACME__MAX_UNANSWERED_JOBS", "7")

        settings = Settings.load()

        assert [settings.unanswered_jobs_cap(tenant) for tenant in ("acme", "other")] == [7, 5]

    @pytest.mark.parametrize(
        "tenants",
        ['{"acme": {"max_jobs": 5}}', '{"acme": {"max_unanswered_jobs": 0}}', '{"acme": {"max_unanswered_jobs": "x"}}'],
    )
    def test_what_is_wrong_is_named(self, monkeypatch: pytest.MonkeyPatch, tenants: str) -> None:
        monkeypatch.setenv("BATCHMILL_TENANTS", tenants)

        with pytest.raises(SettingsError, match="of tenant 'acme'"):
            Settings.load()

    def test_commands_and_python_heed_them(
        self, database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
        monkeypatch.setenv("BATCHMILL_TENANTS__ACME__MAX_UNANSWERED_JOBS", "1")
        file = tmp_path / "in.jsonl"
        file.write_text('"good"\n"bad"\n')

        result = CliRunner().invoke(batchmill.cli, ["submit", str(file), "-p", SAMPLE, "--tenant", "acme"])

        assert (result.exit_code, "may have 1" in result.stderr) == (1, True)
        with Client() as client:
            with pytest.raises(TooManyJobs):
                client.submit(SAMPLE, ["good", "bad"], tenant="acme")
            client.submit(SAMPLE, ["good", "bad"])


def test_every_request_of_a_tenant_names_its_cap() -> None:
    """Without the field a request has no cap; those of demos and schedules get it elsewhere, or need none.

    `SubmitOptions.request` has no default for it.
    """
    exempt = {"producer/cli/demo/demo.py", "producer/schedules/definition.py"}
    missing = set()
    for path in (ROOT / "producer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("SubmitRequest", "SubmitRequest.create"):
                names = {keyword.arg for keyword in node.keywords}
                if "max_unanswered_jobs" not in names:
                    missing.add(str(path.relative_to(ROOT)))

    assert missing == exempt


def test_the_error_is_worth_another_try() -> None:
    error: BatchmillError = TooManyJobs("full", 30.0)

    assert (error.retryable, error.exit_code, error.code) == (True, 1, "too_many_unanswered_jobs")
