"""One batch for each idempotency key: found again, gone on with, refused, or left to somebody else."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

import batchmill
from batchmill import Client
from models.db import Database
from models.errors import BatchmillError, IdempotencyConflict, IdempotencyKeyInUse, InvalidRows, UsageError
from models.guards.definition import Guard
from models.lifecycle import termination
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.pipeline import Pipeline
from models.states import BatchStatus, Termination
from producer.batches import views
from producer.readers.rows import Problem, Row, Source
from producer.results import pages
from producer.submission import chunks, job_writer, open_submission, submit
from producer.submission.ingestion import SubmitResult
from producer.submission.request import SubmitRequest
from producer.times import Deadline
from tests.factories.batch_rows import execute
from tests.servers import wait_until
from tests.threads import run_concurrently
from worker.maintenance import batch_endings

ROOT = Path(__file__).parents[3]
SAMPLE = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}["sample-sentiment-analysis"]
KEY = "night of the 24th"
ELSEWHERE = "another.example:1:abc"


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if request.cls is not TestCommand:
        monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)
        monkeypatch.setattr(job_writer, "IDS_PER_LOOKUP", 2)


def accept(database: Database, rows: Iterator[Row | Problem], **fields: Any) -> SubmitResult:
    request = SubmitRequest.create(fields.pop("pipeline", SAMPLE), **{"idempotency_key": KEY, **fields})
    return submit.submit(database, 4, request, Source("a.jsonl", "line", rows))


def texts(count: int, first: int = 1) -> Iterator[Row]:
    return (Row(where, f"id {where}", f"text {where}", {"n": where}) for where in range(first, count + 1))


def broken_off(count: int) -> Iterator[Row]:
    yield from texts(count)
    raise KeyboardInterrupt


def half_way(database: Database, count: int = 7, **fields: Any) -> str:
    """A batch under the key of which whole chunks of so many rows are in; its submitter has died."""
    with pytest.raises(KeyboardInterrupt):
        accept(database, broken_off(count), **fields)
    execute(database, "UPDATE batches SET holder_id = :by, holder_heartbeat_at = '2020-01-01'", by=ELSEWHERE)
    (batch,) = views.list_batches(database, 2)
    return batch.id


def column(database: Database, query: str) -> list[Any]:
    with database.read() as connection:
        return list(connection.scalars(text(query)))


def state(database: Database) -> list[Any]:
    with database.read() as connection:
        rows = connection.execute(text("SELECT id, status, holder_id, rows_read, rows_digest FROM batches")).all()
    return [*rows, column(database, "SELECT count(*) FROM jobs")]


class TestGuards:
    def test_of_the_catalogue_belong_to_the_batch_and_not_to_the_request(self, database: Database) -> None:
        first, more = Guard(on="input", action="flag", words=("a",)), Guard(on="output", action="fail", pattern="x")
        open_request = half_way(database, pipeline=guarded(first=first))

        again = accept(database, texts(9), pipeline=guarded(first=first, more=more))
        after = accept(database, texts(9), pipeline=SAMPLE)

        assert again.batch_id == after.batch_id == open_request
        assert column(database, "SELECT guard FROM batch_guards ORDER BY guard") == ["first", "more"]
        assert column(database, "SELECT action FROM batch_guards ORDER BY guard") == ["flag", "fail"]
        assert column(database, "SELECT guarded FROM batches") == [True]

    def test_are_none_without_any(self, database: Database) -> None:
        accept(database, texts(2))

        assert column(database, "SELECT guard FROM batch_guards") == []
        assert column(database, "SELECT guarded FROM batches") == [False]


def guarded(**guards: Guard) -> Pipeline:
    return SAMPLE.model_copy(update={"guards": guards})


class TestTheSameAgain:
    def test_is_the_same_batch(self, database: Database) -> None:
        first = accept(database, texts(10))
        before = state(database)

        second = accept(database, texts(10))

        assert (second.batch_id, second.jobs, second.existing_status) == (first.batch_id, 10, BatchStatus.IN_PROGRESS)
        assert first.existing_status is None
        assert state(database) == before

    def test_under_another_key_or_none_is_another_batch(self, database: Database) -> None:
        ids = {accept(database, texts(4), idempotency_key=key).batch_id for key in ("a", "b", None, None)}

        assert len(ids) == 4

    def test_goes_on_where_it_was_broken_off(self, database: Database) -> None:
        batch_id = half_way(database)
        assert column(database, "SELECT count(*) FROM jobs") == [6]

        submission = accept(database, texts(10))

        assert (submission.batch_id, submission.jobs, submission.already_ingested) == (batch_id, 10, 6)
        assert column(database, "SELECT custom_id FROM jobs ORDER BY position") == [f"id {n}" for n in range(1, 11)]
        assert column(database, "SELECT start_position FROM slices ORDER BY start_position") == [0, 4, 8]
        assert accept(database, texts(10)).existing_status is BatchStatus.IN_PROGRESS

    def test_goes_on_before_anything_was_in(self, database: Database) -> None:
        batch_id = half_way(database, 2)

        assert accept(database, texts(10)).batch_id == batch_id

    def test_goes_on_in_chunks_of_another_size(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        batch_id = half_way(database)
        monkeypatch.setattr(chunks, "CHUNK_JOBS", 100)

        submission = accept(database, texts(10))

        assert (submission.batch_id, submission.already_ingested) == (batch_id, 6)

    def test_counts_rows_that_had_failed_before_it_was_broken_off(self, database: Database) -> None:
        def rows() -> Iterator[Row | Problem]:
            yield from [Row(1, "a", "good"), Problem(2, "is bad"), Row(3, "b", "good"), Row(4, "a", "again")]
            yield from [Row(5, "c", "good"), Row(6, "d", "good")]

        def second() -> Iterator[Row | Problem]:
            yield from rows()
            yield from [Row(7, "b", "again"), Row(8, "e", "good")]

        def first() -> Iterator[Row | Problem]:
            yield from second()
            yield Row(9, "f", "the third chunk, in whose time the second is mended")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            accept(database, first(), on_invalid="fail-row")
        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")

        submission = accept(database, second(), on_invalid="fail-row")

        assert (submission.jobs, submission.failed, submission.already_ingested) == (8, 3, 6)
        landed = list(pages.iter_results(database, submission.batch_id))
        assert [(row.seq, row.position, row.error_message) for row in landed] == [
            (1, 1, "line 2: is bad"),
            (2, 3, "line 4: has custom_id 'a', which line 1 has already"),
            (3, 6, "line 7: has custom_id 'b', which line 3 has already"),
        ]

    def test_of_a_batch_that_was_ended_half_way_is_that_batch_as_it_is(self, database: Database) -> None:
        batch_id = half_way(database)
        termination.terminate(
            database, batch_id, Termination.CANCELLED, None, None, from_statuses=(BatchStatus.VALIDATING,)
        )

        submission = accept(database, texts(10))

        assert (submission.batch_id, submission.jobs, submission.existing_status) == (
            batch_id,
            6,
            BatchStatus.CANCELLED,
        )


class TestAbandoned:
    """Nobody went on with it for long: the same command is another batch, with all its rows."""

    @pytest.fixture(params=["reject", "fail-row"])
    def on_invalid(self, request: pytest.FixtureRequest) -> str:
        """Read in before it is worked on, or meanwhile."""
        how: str = request.param
        return how

    def test_it_frees_its_key(self, database: Database, on_invalid: str) -> None:
        first = half_way(database, on_invalid=on_invalid)
        assert first in batch_endings.end_abandoned_batches(database, 60.0)
        batch_endings.finish_terminations(database, {})

        submission = accept(database, texts(10), on_invalid=on_invalid)

        assert (submission.batch_id != first, submission.existing_status, submission.jobs) == (True, None, 10)
        assert views.get_batch(database, first).status is BatchStatus.FAILED
        rows = column(
            database, f"SELECT custom_id FROM jobs WHERE batch_id = '{submission.batch_id}' ORDER BY position"
        )
        assert rows == [f"id {n}" for n in range(1, 11)]

    def test_a_submitter_that_wakes_up_writes_nothing_more(
        self, database: Database, on_invalid: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            open_submission, "HEARTBEAT_SECONDS", 1000.0
        )  # it stands still, as a process that was stopped

        def rows() -> Iterator[Row]:
            yield from texts(7)
            wait_until(lambda: column(database, "SELECT count(*) FROM jobs")[0] >= 3, "the first chunk")
            wait_until(abandoned, "the duty to end it, though a chunk may be written just now")
            yield from texts(10, first=8)

        def abandoned() -> str:
            execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")
            return batch_endings.end_abandoned_batches(database, 60.0)

        with pytest.raises(BatchmillError, match="ended while it was"):
            accept(database, rows(), on_invalid=on_invalid)

        assert accept(database, texts(10), on_invalid=on_invalid).existing_status is None


def other(change: Callable[[Row], Row]) -> Iterator[Row]:
    return (change(row) if row.location == 2 else row for row in texts(10))


OTHER_SOURCES = [
    ("input", lambda: other(lambda row: row._replace(raw_input="another text"))),
    ("custom_id", lambda: other(lambda row: row._replace(custom_id="another id"))),
    ("meta", lambda: other(lambda row: row._replace(passthrough={"n": 0}))),
    ("fewer rows", lambda: texts(4)),
]


class TestAnother:
    @pytest.mark.parametrize(("what", "rows"), OTHER_SOURCES)
    @pytest.mark.parametrize("accepted", [True, False])
    def test_source_is_refused_and_nothing_changes(
        self, database: Database, what: str, rows: Callable[[], Iterator[Row]], accepted: bool
    ) -> None:
        if accepted:
            accept(database, texts(10))
        else:
            half_way(database)
        before = state(database)[-1]

        with pytest.raises(IdempotencyConflict, match="or the same source"):
            accept(database, rows())

        assert state(database)[-1] == before
        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")
        assert accept(database, texts(10)).jobs == 10

    def test_source_with_more_rows_is_refused(self, database: Database) -> None:
        accept(database, texts(10))

        with pytest.raises(IdempotencyConflict, match="has more rows"):
            accept(database, texts(11))

    @pytest.mark.parametrize(
        ("fields", "word"),
        [
            ({"parameters": {"top_k": 2}}, "parameters"),
            ({"name": "mine"}, "name"),
            ({"priority": 3}, "priority"),
            ({"metadata": {"a": "b"}}, "metadata"),
            ({"deadline": "6h"}, "deadline"),
            ({"max_failures": 3}, "max-failures"),
            ({"on_invalid": "fail-row"}, "on-invalid"),
        ],
    )
    def test_request_is_refused_and_named(self, database: Database, fields: dict[str, Any], word: str) -> None:
        accept(database, texts(4))

        with pytest.raises(IdempotencyConflict, match=f"was submitted with (an)?other .*{word}"):
            accept(database, texts(4), **fields)

        assert len(views.list_batches(database, 5)) == 1


class TestBadRows:
    def test_behind_what_is_in_free_the_key(self, database: Database) -> None:
        half_way(database)

        with pytest.raises(InvalidRows, match="line 9: is bad"):
            accept(database, iter([*texts(8), Problem(9, "is bad")]))

        assert views.list_batches(database, 5) == []
        assert accept(database, texts(4)).existing_status is None

    def test_in_what_is_in_are_another_source_s(self, database: Database) -> None:
        batch_id = half_way(database)

        with pytest.raises(InvalidRows, match="line 2: is bad"):
            accept(database, iter([*texts(1), Problem(2, "is bad"), *texts(10, first=3)]))

        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")
        assert accept(database, texts(10)).batch_id == batch_id


class TestTwoAtOnce:
    def request(self) -> SubmitRequest:
        return SubmitRequest.create(SAMPLE, idempotency_key=KEY)

    def test_who_comes_while_another_reads_is_told(self, database: Database) -> None:
        batch_id = half_way(database)
        execute(database, f"UPDATE batches SET holder_heartbeat_at = {database.sql.now}")

        def goes_on(_: float) -> None:
            execute(database, f"UPDATE batches SET holder_heartbeat_at = {database.sql.now}, rows_read = 9")

        with pytest.raises(IdempotencyKeyInUse, match=f"batchmill wait {batch_id}"):
            open_submission.open_or_resume(database, self.request(), sleep=goes_on)

    def test_who_waits_until_the_other_is_done_has_its_batch(self, database: Database) -> None:
        half_way(database)
        execute(database, f"UPDATE batches SET holder_heartbeat_at = {database.sql.now}")

        def accepted(_: float) -> None:
            execute(database, "UPDATE batches SET status = 'in_progress', total = 6")

        assert (
            open_submission.open_or_resume(database, self.request(), sleep=accepted).status is BatchStatus.IN_PROGRESS
        )

    def test_who_waits_in_vain_takes_over(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        half_way(database)
        execute(database, f"UPDATE batches SET holder_heartbeat_at = {database.sql.now}")

        entry = open_submission.open_or_resume(
            database,
            self.request(),
            sleep=lambda _: monkeypatch.setattr(open_submission, "HOLDER_TIMEOUT_SECONDS", 0.0),
        )

        assert (entry.status, entry.rows_read) == (BatchStatus.VALIDATING, 6)
        assert column(database, "SELECT holder_id FROM batches") == [entry.holder_id]

    def test_who_was_taken_for_dead_and_is_not_writes_nothing_more(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            open_submission, "HEARTBEAT_SECONDS", 1000.0
        )  # it stands still, as a process that was stopped

        def rows() -> Iterator[Row]:
            yield from texts(7)
            execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")
            assert accept(database, texts(10)).jobs == 10
            yield from texts(10, first=8)

        with pytest.raises(IdempotencyKeyInUse, match="another process submits"):
            accept(database, rows())

        (batch,) = views.list_batches(database, 5)
        assert (batch.status, batch.counts.total) == (BatchStatus.IN_PROGRESS, 10)
        assert column(database, "SELECT count(*) FROM jobs") == [10]

    def test_any_number_make_one_batch(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(open_submission, "HOLDER_TIMEOUT_SECONDS", 0.02)
        said: list[str] = []

        def submits() -> None:
            try:
                said.append(accept(database, texts(20)).batch_id)
            except IdempotencyKeyInUse as error:
                said.append(error.code)

        run_concurrently(*[submits] * 4)

        (batch,) = views.list_batches(database, 5)
        assert batch.id in said
        assert set(said) <= {batch.id, "idempotency_key_in_use"}
        assert (batch.status, batch.counts.total) == (BatchStatus.IN_PROGRESS, 20)
        assert column(database, "SELECT count(*) FROM jobs") == [20]


class TestPulse:
    def test_a_slow_source_s_submitter_is_heard(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between two chunks that may lie hours apart."""
        monkeypatch.setattr(open_submission, "HEARTBEAT_SECONDS", 0.01)

        def rows() -> Iterator[Row]:
            yield from texts(1)
            wait_until(lambda: column(database, "SELECT holder_heartbeat_at FROM batches") != [None], "a beat")
            yield from texts(4, first=2)

        assert accept(database, rows()).jobs == 4

    def test_a_batch_that_is_another_s_gets_none(self, database: Database) -> None:
        batch_id = half_way(database)
        before = column(database, "SELECT holder_heartbeat_at FROM batches")

        assert not open_submission.lease_of(database, open_submission.OpenSubmission(batch_id, "not ours")).renew()
        assert column(database, "SELECT holder_heartbeat_at FROM batches") == before
        assert open_submission.lease_of(database, open_submission.OpenSubmission(batch_id, ELSEWHERE)).renew()
        assert column(database, "SELECT holder_heartbeat_at FROM batches") != before


@pytest.mark.parametrize("key", ["", "  ", "x" * 256, "a\0b"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(BatchmillError, match="idempotency key"):
        SubmitRequest.create(SAMPLE, idempotency_key=key)


class TestCommand:
    def command(self, path: Path) -> list[str]:
        return ["submit", str(path), "-p", SAMPLE.name, "--idempotency-key", KEY, "--passthrough", "region"]

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "reviews.jsonl"
        rows = ({"id": number, "text": f"text {number}", "region": "eu"} for number in range(25_000))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    @pytest.fixture(autouse=True)
    def environment(self, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
        monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)

    def kill_half_way(self, path: Path, database: Database) -> int:
        """A real process and a real SIGKILL, with a part of the rows in; returns how many."""
        command = [sys.executable, "-m", "batchmill", *self.command(path)]
        command[command.index(str(path))] = "-"
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin
            process.stdin.write(path.read_bytes()[: path.stat().st_size * 3 // 4])
            process.stdin.flush()
            wait_until(lambda: column(database, "SELECT count(*) FROM jobs")[0] > 0, "the first chunk")
            process.send_signal(signal.SIGKILL)
            process.communicate()
        (before,) = column(database, "SELECT count(*) FROM jobs")
        assert before in (10_000, 20_000)
        assert column(database, "SELECT status FROM batches") == ["validating"]
        return int(before)

    def test_killed_half_way_and_abandoned_the_same_command_reads_all_rows_in(
        self, path: Path, database: Database
    ) -> None:
        self.kill_half_way(path, database)
        execute(database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01'")
        assert "abandoned" in batch_endings.end_abandoned_batches(database, 86_400.0)
        batch_endings.finish_terminations(database, {})

        result = CliRunner().invoke(batchmill.cli, self.command(path))

        assert result.exit_code == 0, result.stderr
        assert "accepted 25,000 jobs in 25 slices\n" in result.stderr
        batch_id = result.stdout.strip()
        assert column(database, f"SELECT count(*) FROM jobs WHERE batch_id = '{batch_id}'") == [25_000]
        assert column(database, f"SELECT status FROM batches WHERE id <> '{batch_id}'") == ["failed"]

    def test_killed_half_way_the_same_command_goes_on(self, path: Path, database: Database) -> None:
        before = self.kill_half_way(path, database)

        result = CliRunner().invoke(batchmill.cli, self.command(path))

        assert result.exit_code == 0, result.stderr
        assert f"accepted 25,000 jobs in 25 slices, {before:,} of them already ingested" in result.stderr
        assert column(database, "SELECT count(*) FROM jobs") == [25_000]
        assert column(database, "SELECT id FROM batches") == result.stdout.split()

    def test_twice_is_one_batch_and_says_so(self, path: Path, database: Database) -> None:
        first = CliRunner().invoke(batchmill.cli, self.command(path))
        second = CliRunner().invoke(batchmill.cli, self.command(path))

        assert (second.exit_code, second.stdout) == (0, first.stdout)
        assert second.stderr.splitlines()[-1] == (
            f"{first.stdout.strip()} was submitted under this key before, with 25,000 jobs: in_progress"
        )
        path.write_text('"another"\n')
        third = CliRunner().invoke(batchmill.cli, [*self.command(path)[:-2]])
        assert third.exit_code == 2
        assert "use another key, or the same source" in third.stderr

    @pytest.mark.parametrize(
        ("status", "failed", "exit_code"),
        [
            ("in_progress", 0, 0),
            ("completed", 0, 0),
            ("completed", 1, 3),
            ("failed", 4, 1),
            ("cancelled", 0, 1),
            ("expired", 0, 1),
            ("cancelling", 0, 1),
        ],
    )
    def test_again_exits_as_the_batch_stands(
        self, tmp_path: Path, database: Database, status: str, failed: int, exit_code: int
    ) -> None:
        path = tmp_path / "four.jsonl"
        path.write_text('"a"\n"b"\n"c"\n"d"\n')
        command = ["submit", str(path), "-p", SAMPLE.name, "--idempotency-key", KEY]
        first = CliRunner().invoke(batchmill.cli, command)
        execute(database, "UPDATE batches SET status = :status, failed = :failed", status=status, failed=failed)

        second = CliRunner().invoke(batchmill.cli, command)

        assert (second.exit_code, second.stdout) == (exit_code, first.stdout)
        assert ("nothing was submitted now; run it again with: batchmill retry" in second.stderr) == (exit_code == 1)

    def test_columns_that_are_kept_stand_beside_the_job(self, tmp_path: Path, database: Database) -> None:
        path = tmp_path / "a.csv"
        path.write_text("text,region,lang\ngood,eu,de\nbad,us,en\n")

        arguments = ["submit", str(path), "-p", SAMPLE.name, "--passthrough", "region", "--passthrough", "lang"]
        assert CliRunner().invoke(batchmill.cli, arguments).exit_code == 0

        with database.read() as connection:
            kept = [
                json.loads(meta) if isinstance(meta, str) else meta
                for meta in connection.scalars(text("SELECT passthrough FROM jobs ORDER BY position"))
            ]
        assert kept == [{"region": "eu", "lang": "de"}, {"region": "us", "lang": "en"}]
        result = CliRunner().invoke(batchmill.cli, [*arguments, "--passthrough", "nope"])
        assert (
            "has no column 'nope'; it has: text, region, lang; say which to use: --passthrough COLUMN" in result.stderr
        )


def test_the_client_has_keys_too(database_url: str, redis_url: str) -> None:
    rows = [{"text": "good", "region": "eu"}, {"text": "bad", "region": "us"}]
    with Client(database_url, redis_url) as client:
        first = client.submit(SAMPLE.name, rows, passthrough=["region"], idempotency_key=KEY)
        second = client.submit(SAMPLE.name, rows, passthrough=["region"], idempotency_key=KEY)

        assert (first.already_submitted, second.already_submitted) == (False, True)
        assert first.id == second.id
        with pytest.raises(IdempotencyConflict):
            client.submit(SAMPLE.name, rows, idempotency_key=KEY)


def test_the_client_tells_that_a_known_batch_has_failed(
    database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(database_url, redis_url) as client:
        first = client.submit(SAMPLE.name, ["good"], idempotency_key=KEY)
        first.cancel()

        second = client.submit(SAMPLE.name, ["good"], idempotency_key=KEY)

        assert (second.id, second.already_submitted, second.status) == (first.id, True, "cancelled")
        assert second.warning is not None
        assert second.warning in caplog.text
        assert f"batchmill retry {first.id}" in second.warning


class TestDeadline:
    PASSED = "2020-01-01 06:00"

    def test_a_new_key_refuses_one_that_has_passed(self, database: Database) -> None:
        with pytest.raises(UsageError, match="has passed"):
            accept(database, texts(4), deadline=self.PASSED)

        assert state(database) == [[0]]

    def test_the_same_again_may_come_after_it(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Deadline, "check_future", lambda _: None)  # it was still ahead then
            first = accept(database, texts(4), deadline=self.PASSED)

        assert accept(database, texts(4), deadline=self.PASSED).batch_id == first.batch_id
