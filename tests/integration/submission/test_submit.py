import base64
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from batchmill import Client
from models.db import Database
from models.dialects.columns import Document
from models.errors import BatchmillError, InvalidRows, Unreachable, UnreadableSource, UsageError
from models.lifecycle import wakeups
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer.batches import views
from producer.batches.actions import delete as deletion
from producer.readers.rows import Problem, Row, Source
from producer.results import pages
from producer.submission import chunks, discard, job_writer, submit
from producer.submission.ingestion import SubmitResult
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest
from tests import fake_worker
from tests.servers import WAIT_TIMEOUT_SECONDS, Valkey, redis_client, wait_until

ROOT = Path(__file__).parents[3]
NAMED = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}
HUB, SAMPLE = NAMED["sentiment-analysis"], NAMED["sample-sentiment-analysis"]
TABLES = ("batches", "jobs", "slices", "results", "model_versions", "workers")


def accept(
    database: Database, rows: Iterable[Row | Problem], pipeline: Pipeline = SAMPLE, slice_size: int = 4, **fields: Any
) -> SubmitResult:
    source = Source("a.jsonl", "line", iter(rows))
    return submit.submit(database, slice_size, SubmitRequest.create(pipeline, **fields), source)


def texts(count: int) -> Iterator[Row]:
    return (Row(where, f"id {where}", f"text {where}") for where in range(1, count + 1))


def column(database: Database, query: str) -> list[Any]:
    with database.read() as connection:
        return list(connection.scalars(text(query)))


def rows_of_tables(database: Database) -> dict[str, int]:
    return {table: column(database, f"SELECT count(*) FROM {table}")[0] for table in TABLES}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 3)
    monkeypatch.setattr(discard, "DELETE_CHUNK_JOBS", 2)
    monkeypatch.setattr(job_writer, "IDS_PER_LOOKUP", 2)


@pytest.mark.usefixtures("small_chunks")
class TestInvalidRowsThatFailAlone:
    def test_are_jobs_with_a_failed_result_and_the_others_are_open(self, database: Database) -> None:
        rows = [
            Row(1, "a", "good"),
            Row(2, "b", ""),
            Problem(3, "is not JSON", custom_id=None),
            Row(4, None, None),
            Row(5, "a", "again"),
            Row(6, "c", "x"),
            Row(7, "b", "an id that an invalid row has"),
            Row(8, "d", "good"),
        ]

        submission = accept(database, rows, on_invalid="fail-row")

        view = views.get_batch(database, submission.batch_id)
        assert (submission.jobs, submission.failed) == (8, 4)
        assert (view.counts.total, view.counts.failed, view.counts.unanswered) == (8, 4, 4)
        landed = list(pages.iter_results(database, submission.batch_id))
        assert [row.seq for row in landed] == list(range(1, 5))
        assert {row.position: (row.error_code, row.custom_id, row.input) for row in landed} == {
            1: ("empty_text", "b", {"text": ""}),
            2: ("invalid_row", None, {}),
            3: ("not_text", None, {}),
            4: ("duplicate_id", "a", {"text": "again"}),
        }
        assert landed[0].error_message == "line 2: text is empty; leave the row out or give it text"
        assert column(database, "SELECT custom_id FROM jobs ORDER BY position") == [
            "a",
            "b",
            None,
            None,
            "a",
            "c",
            "b",
            "d",
        ]
        assert column(database, "SELECT position FROM jobs WHERE invalid ORDER BY position") == [1, 2, 3, 4]

    def test_a_batch_of_nothing_else_has_ended(self, database: Database) -> None:
        submission = accept(database, [Row(where, None, None) for where in range(1, 8)], on_invalid="fail-row")

        view = views.get_batch(database, submission.batch_id)
        assert (view.status, view.counts.failed, submission.slices) == ("completed", 7, 0)

    def test_a_word_that_is_not_known_is_refused(self, database: Database) -> None:
        with pytest.raises(BatchmillError, match="reject or fail-row"):
            accept(database, texts(1), on_invalid="ignore")


class TestAccept:
    @pytest.mark.usefixtures("small_chunks")
    def test_every_row_becomes_a_job_and_every_job_is_in_a_slice(self, database: Database) -> None:
        submission = accept(database, texts(10))

        assert column(database, "SELECT position FROM jobs ORDER BY position") == list(range(10))
        assert column(database, "SELECT custom_id FROM jobs ORDER BY position") == [f"id {n}" for n in range(1, 11)]
        assert column(database, "SELECT start_position FROM slices ORDER BY id") == [0, 4, 8]
        assert column(database, "SELECT size FROM slices ORDER BY id") == [4, 4, 2]
        assert column(database, "SELECT DISTINCT state FROM slices") == ["queued"]
        assert submission.slices == 3
        assert submission.jobs == 10

    def test_the_batch_says_what_was_asked(self, database: Database) -> None:
        submission = accept(
            database, texts(2), HUB, name="reviews", parameters={"top_k": 2}, metadata={"team": "toys"}, priority=5
        )

        batch = views.get_batch(database, submission.batch_id)
        assert batch.status == "in_progress"
        assert batch.counts.as_dict()["unanswered"] == batch.counts.total == 2
        assert (batch.pipeline, batch.task, batch.model) == (HUB.name, HUB.task, HUB.model)
        assert batch.revision == HUB.revision
        assert (batch.name, batch.parameters, batch.metadata, batch.priority) == (
            "reviews",
            {"top_k": 2},
            {"team": "toys"},
            5,
        )
        created, begun = batch.timestamps["created_at"], batch.timestamps["in_progress_at"]
        assert created is not None
        assert begun is not None
        assert created <= begun

    def test_an_unpinned_revision_is_left_to_the_first_worker(self, database: Database) -> None:
        assert views.get_batch(database, accept(database, texts(1)).batch_id).revision is None

    @pytest.mark.usefixtures("small_chunks")
    def test_nobody_can_claim_a_batch_that_is_being_read(self, database: Database) -> None:
        seen: list[tuple[str, int, int]] = []

        def rows() -> Iterator[Row]:
            for row in texts(7):
                (batch,) = views.list_batches(database, 1)
                seen.append((batch.status, batch.counts.total, rows_of_tables(database)["slices"]))
                yield row

        accept(database, rows())

        assert set(seen) == {("validating", 0, 0)}

    @pytest.mark.usefixtures("small_chunks")
    def test_progress_is_told_after_each_chunk(self, database: Database) -> None:
        told: list[int] = []
        source = Source("a.jsonl", "line", texts(7))

        submit.submit(database, 4, SubmitRequest.create(SAMPLE), source, told.append)

        assert told == [3, 6, 7]

    def test_inputs_are_stored_as_the_task_normalised_them(self, database: Database) -> None:
        raw: list[object] = ['ä\u2028\\n\t"', {"text": "a", "text_pair": "b", "stars": 5}]

        submission = accept(database, [Row(1, None, raw[0]), Row(2, None, raw[1])])
        fake_worker.write_results(database, submission.batch_id, [(0, {}), (1, {})])

        inputs = [row.input for row in pages.iter_by_position(database, submission.batch_id)]
        assert inputs == [{"text": raw[0]}, {"text": "a", "text_pair": "b"}]


def bad_row() -> Iterator[Row | Problem]:
    yield from texts(5)
    yield Problem(6, "is bad")
    yield from texts(3)


def repeated_at_once() -> Iterator[Row]:
    yield from texts(2)
    yield Row(3, "id 1", "again")


def repeated_later() -> Iterator[Row]:
    yield from texts(6)
    yield Row(9, "id 2", "again")
    yield Row(10, "id 5", "again")


def broken() -> Iterator[Row]:
    yield from texts(5)
    raise UnreadableSource("a.jsonl, line 6 is longer than 16 MiB; split it")


def interrupted() -> Iterator[Row]:
    yield from texts(7)
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_chunks")
class TestRefusals:
    @pytest.mark.parametrize(
        ("rows", "error", "words"),
        [
            (lambda: iter(()), UnreadableSource, "has no rows"),
            (bad_row, InvalidRows, "line 6: is bad"),
            (repeated_at_once, InvalidRows, "line 3: has custom_id 'id 1', which line 1 has already"),
            (repeated_later, InvalidRows, "line 9: has custom_id 'id 2', which line 2 has already"),
            (broken, UnreadableSource, "line 6 is longer"),
            (interrupted, KeyboardInterrupt, None),
        ],
    )
    def test_leave_nothing_behind(
        self, database: Database, rows: Callable[[], Iterator[Row]], error: type[BaseException], words: str | None
    ) -> None:
        with pytest.raises(error, match=words):
            accept(database, rows())

        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    def test_repetitions_across_chunks_are_named_in_order(self, database: Database) -> None:
        with pytest.raises(InvalidRows) as caught:
            accept(database, repeated_later())

        assert caught.value.problems == (
            "line 9: has custom_id 'id 2', which line 2 has already",
            "line 10: has custom_id 'id 5', which line 5 has already",
        )

    def test_the_same_ids_in_another_batch_are_fine(self, database: Database) -> None:
        accept(database, texts(5))
        accept(database, texts(5))

        assert rows_of_tables(database)["jobs"] == 10

    def test_an_accepted_batch_is_never_discarded(self, database: Database) -> None:
        """A connection that breaks at the commit may leave us not knowing that it was accepted."""
        submission = accept(database, texts(5))
        (submitter,) = column(database, "SELECT holder_id FROM batches")

        discard.discard(database, OpenSubmission(submission.batch_id, submitter), KeyboardInterrupt())

        assert rows_of_tables(database)["jobs"] == 5

    @pytest.mark.parametrize(
        ("broken_step", "status"), [("retention.finish_deletion", "deleting"), ("mark_for_deletion", "validating")]
    )
    def test_what_a_full_disk_does_not_let_go_is_named_and_goes_later(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, broken_step: str, status: str
    ) -> None:
        def full(*_: object) -> bool:
            raise Unreachable("the database is full; make room on its disk")

        def rows() -> Iterator[Row]:
            yield from texts(9)
            full()

        with monkeypatch.context() as patched:
            patched.setattr(f"producer.submission.discard.{broken_step}", full)
            with pytest.raises(
                Unreachable, match=r"^the database is full; make room on its disk; batch_.* or: batchmill delete"
            ):
                accept(database, rows())

        (batch_id,) = column(database, "SELECT id FROM batches")
        assert column(database, "SELECT status FROM batches") == [status]
        deletion.delete(database, batch_id, cancel=True)
        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    def test_a_batch_that_was_removed_meanwhile_is_said(self, database: Database) -> None:
        def rows() -> Iterator[Row]:
            yield from texts(3)
            with database.write() as connection:
                connection.execute(text("DELETE FROM batches"))

        with pytest.raises(BatchmillError, match="was removed or ended while it was being submitted"):
            accept(database, rows())

        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)


class TestWakeups:
    def settings(self, redis_url: str) -> Settings:
        return Settings.load(redis_url=redis_url)

    def test_once_for_each_slice_with_the_name_only(self, sqlite_url: str, redis_url: str) -> None:
        database = Database(sqlite_url)
        submission = accept(database, (Row(n, None, "canary") for n in range(10)))

        assert submit.notify_workers(self.settings(redis_url), SAMPLE.name, submission.slices) is None

        with redis_client(redis_url) as client:
            messages = client.lrange(f"batchmill.{SAMPLE.name}", 0, -1)
        bodies = [json.loads(base64.b64decode(json.loads(message)["body"])) for message in messages]
        assert [body[0] for body in bodies] == [[SAMPLE.name]] * 3
        assert not any(
            b"canary" in message or b"canary" in base64.b64decode(json.loads(message)["body"]) for message in messages
        )
        database.close()

    def test_a_redis_that_is_away_is_a_sentence(self, own_valkey: Valkey) -> None:
        own_valkey.kill()

        warning = submit.notify_workers(self.settings(own_valkey.url), SAMPLE.name, 3)

        assert warning is not None
        assert "does not accept wakeups" in warning
        assert "the batch is safe in SQL" in warning

    def test_a_redis_that_hangs_costs_seconds_only(self, own_valkey: Valkey) -> None:
        own_valkey.pause()
        began = time.monotonic()

        assert submit.notify_workers(self.settings(own_valkey.url), SAMPLE.name, 3)

        assert time.monotonic() - began < 60

    def test_while_more_is_read_it_is_not_waited_for_twice(self) -> None:
        notified: list[int] = []

        def notify(_pipeline: str, slices: int) -> str | None:
            notified.append(slices)
            return "refused" if notified[1:] else None

        send = submit.WakeupSender(notify)

        for slices in (1, 2, 3, 4):
            send(SubmitResult("batch_1", SAMPLE.name, 0, 0, slices))

        assert notified == [1, 2]

    def test_whatever_goes_wrong_there_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> Celery:
            raise KeyError("canary")

        monkeypatch.setattr(wakeups, "celery_app", refuse)

        warning = submit.notify_workers(self.settings("redis://127.0.0.1:1/0"), SAMPLE.name, 1)

        assert warning is not None
        assert "the batch is safe in SQL" in warning

    def test_a_password_is_not_shown(self) -> None:

        warning = submit.notify_workers(self.settings("redis://:canary@127.0.0.1:1/0"), SAMPLE.name, 1)

        assert warning
        assert "canary" not in warning


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments, input=None if stdin is None else io.BytesIO(stdin))


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"id": "a", "text": "good"}\n{"id": "b", "text": "bad"}\n')
    return str(path)


class TestCommand:
    @pytest.fixture(autouse=True)
    def environment(self, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
        monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)

    def test_the_id_alone_goes_to_stdout(self, reviews: str, database: Database) -> None:
        result = run(
            "submit",
            reviews,
            "--pipeline",
            SAMPLE.name,
            "--name",
            "mine",
            "--param",
            "top_k=2",
            "--metadata",
            "team=toys",
            "--priority",
            "3",
        )

        assert result.exit_code == 0, result.stderr
        batch = views.get_batch(database, result.stdout.removesuffix("\n"))
        assert (batch.name, batch.parameters, batch.metadata, batch.priority) == (
            "mine",
            {"top_k": 2},
            {"team": "toys"},
            3,
        )
        assert result.stderr.splitlines() == [
            "accepted 2 jobs in 1 slice",
            f"no worker serves {SAMPLE.name} now; start one: batchmill up --pipelines {SAMPLE.name}",
        ]

    @pytest.mark.parametrize(("heartbeat_age_seconds", "served"), [(1.0, True), (1_000.0, False)])
    def test_a_live_worker_is_noticed(
        self, reviews: str, database: Database, heartbeat_age_seconds: float, served: bool
    ) -> None:
        fake_worker.register_worker(database, SAMPLE.name, heartbeat_age_seconds=heartbeat_age_seconds)
        fake_worker.register_worker(database, HUB.name)

        assert ("no worker serves" not in run("submit", reviews, "-p", SAMPLE.name).stderr) is served

    def test_reuse_says_how_many(self, reviews: str, database: Database) -> None:
        first = run("submit", reviews, "-p", HUB.name).stdout.strip()
        fake_worker.write_results(database, first, [(0, {"label": "GOOD"})])
        with database.write() as connection:
            connection.execute(text("UPDATE batches SET revision = :revision"), {"revision": HUB.revision})

        again = run("submit", reviews, "-p", HUB.name, "--reuse")

        assert again.exit_code == 0, again.stderr
        assert again.stderr.splitlines()[0] == "accepted 2 jobs in 1 slice, 1 of them reused from earlier batches"
        document = json.loads(run("show", again.stdout.strip(), "--json").stdout)
        assert (document["reused"], document["request_counts"]["succeeded"]) == (1, 1)
        shown = run("show", again.stdout.strip()).stdout
        assert "1 of them from earlier batches" in shown

    def test_reuse_says_why_there_is_none(self, reviews: str) -> None:
        result = run("submit", reviews, "-p", "text-generation", "--reuse")

        assert "none of them reused, because it samples without a seed" in result.stderr

    def test_json_is_the_batch(self, reviews: str) -> None:
        result = run("submit", reviews, "-p", SAMPLE.name, "--json")

        document = json.loads(result.stdout)
        assert document["object"] == "batch"
        assert document["request_counts"]["total"] == 2

    def test_columns_can_be_chosen(self, tmp_path: Path, database: Database) -> None:
        path = tmp_path / "a.csv"
        path.write_text('id,sku,body\n1,s1,"good, really"\n2,s2,bad\n')

        result = run("submit", str(path), "-p", SAMPLE.name, "--input", "text=body", "--id", "sku")

        assert result.exit_code == 0, result.stderr
        assert column(database, "SELECT custom_id FROM jobs ORDER BY position") == ["s1", "s2"]
        assert run("submit", str(path), "-p", SAMPLE.name, "--input", "text=body", "--no-id").exit_code == 0

    def test_standard_input(self) -> None:
        assert run("submit", "-", "-p", SAMPLE.name, stdin=b'"good"\n').exit_code == 0
        assert run("submit", "-", "-p", SAMPLE.name, "--format", "csv", stdin=b"text\ngood\n").exit_code == 0

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nowhere.jsonl", "-p", SAMPLE.name], "there is no file nowhere.jsonl"),
            (["-", "-p", SAMPLE.name, "--timeout", "3"], "--timeout limits how long --wait waits"),
            (["-", "-p", "nope"], "there is no pipeline 'nope'; this catalogue has: bge-small, "),
            (["-", "-p", SAMPLE.name, "--param", "top_k=0"], "parameter 'top_k'"),
            (["-", "-p", SAMPLE.name, "--param", "custom_generate=x"], "has no parameter 'custom_generate'"),
            (["-", "-p", SAMPLE.name, "--param", "top_k"], "a value is not NAME=VALUE"),
            (["-", "-p", SAMPLE.name, "--input", "body=text"], "has no input 'body'"),
            (["-", "-p", SAMPLE.name, "--metadata", "a=1", "--metadata", "a=2"], "'a' is given twice"),
            (["-", "-p", SAMPLE.name, "--id", "a", "--no-id"], "exclude each other"),
            (["-", "-p", SAMPLE.name, "--priority", "5000"], "priority 5000 is out of range"),
            (["-", "-p", SAMPLE.name], "standard input has no rows"),
        ],
    )
    def test_usage_errors_write_nothing(self, database: Database, arguments: list[str], words: str) -> None:
        result = run("submit", *arguments, stdin=b"")

        assert result.exit_code == 2
        assert words in result.stderr
        assert result.stdout == ""
        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    def test_bad_rows_are_named_and_not_quoted(self, database: Database) -> None:
        result = run("submit", "-", "-p", SAMPLE.name, stdin=b'"good"\n"canary\\u0000"\n{"text": canary}\n')

        assert result.exit_code == 2
        assert result.stderr.splitlines()[1:] == [
            "  line 2: text has a NUL character, which no database stores; remove it",
            "  line 3: is not JSON at character 10: Expecting value; write one object a line",
        ]
        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    def test_redis_away_is_a_warning(self, reviews: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_REDIS_URL", "redis://127.0.0.1:1/0")

        result = run("submit", reviews, "-p", SAMPLE.name)

        assert result.exit_code == 0
        assert result.stdout.startswith("batch_")
        assert "warning: Redis at redis://127.0.0.1:1/0 does not accept wakeups" in result.stderr
        assert "safe in SQL" in result.stderr

    def test_waiting_may_run_out(self, reviews: str) -> None:
        result = run("submit", reviews, "-p", SAMPLE.name, "--wait", "--timeout", "0")

        assert result.exit_code == 124
        (batch_id,) = result.stdout.splitlines()
        assert f"{batch_id} is in_progress with 0 of 2 jobs done" in result.stderr


class TestAway:
    def test_the_embedded_default_needs_nothing(self, reviews: str, batchmill_home: Path) -> None:
        result = run("submit", reviews, "-p", SAMPLE.name)

        assert result.exit_code == 0, result.stderr
        assert (batchmill_home / "batchmill.db").exists()
        assert "start one: batchmill up" in result.stderr
        assert "warning" not in result.stderr

    def test_an_unreachable_database_is_exit_5(self, reviews: str) -> None:
        result = run("--database-url", "postgresql://127.0.0.1:1/x", "submit", reviews, "-p", SAMPLE.name)

        assert result.exit_code == 5
        assert "does not answer" in result.stderr
        assert result.stdout == ""

    def test_a_server_without_tables_is_not_touched(self, reviews: str, tmp_path: Path) -> None:
        result = run("--database-url", f"sqlite:///{tmp_path / 'new.db'}", "submit", reviews, "-p", SAMPLE.name)

        assert result.exit_code == 6
        assert "run: batchmill db upgrade" in result.stderr

    def test_ctrl_c_leaves_nothing_behind(self, sqlite_url: str) -> None:
        """A real process, a real signal, in the midst of its work."""
        environment = {**os.environ, "BATCHMILL_DATABASE_URL": sqlite_url}
        command = [sys.executable, "-m", "batchmill", "submit", "-", "-p", SAMPLE.name]
        database = Database(sqlite_url)
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin
            process.stdin.write(b'"good"\n' * (chunks.CHUNK_JOBS + 1))
            process.stdin.flush()
            wait_until(lambda: rows_of_tables(database)["jobs"] > 0, "the first chunk")

            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=WAIT_TIMEOUT_SECONDS)

        assert process.returncode == 130
        assert (out, error) == (b"", b"batchmill: interrupted\n")
        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)
        database.close()


class TestClient:
    @pytest.fixture
    def client(self, database_url: str, redis_url: str) -> Iterator[Client]:
        with Client(database_url, redis_url) as client:
            yield client

    def test_texts_become_a_batch(self, client: Client) -> None:
        batch = client.submit(SAMPLE.name, ["good", {"id": 7, "text": "bad"}], name="mine", parameters={"top_k": 1})

        assert batch.warning is None
        assert batch.status == "in_progress"
        assert batch.request_counts.total == 2
        assert batch.as_dict()["name"] == "mine"
        assert [known.id for known in client.batches()] == [batch.id]
        assert client.batch(batch.id).status == "in_progress"

    def test_ids_go_with_the_inputs(self, client: Client, database: Database) -> None:
        client.submit(SAMPLE.name, ["a", "b", {"text": "c", "id": "not this"}], ids=["x", None, 3])

        assert column(database, "SELECT custom_id FROM jobs ORDER BY position") == ["x", None, "3"]

    def test_other_keys_hold_the_fields_and_the_id(self, client: Client, database: Database) -> None:
        keys: dict[str, Any] = {"input_columns": {"text": "review"}, "id_column": "number"}
        record = {"review": "a", "number": 7, "id": "not this", "region": "EU"}
        client.submit(SAMPLE.name, [record], **keys, passthrough="*")

        with database.read() as connection:
            query = text("SELECT custom_id, input, passthrough FROM jobs").columns(input=Document, passthrough=Document)
            assert connection.execute(query).one() == ("7", {"text": "a"}, {"id": "not this", "region": "EU"})
        with pytest.raises(UsageError, match="ids and id_column"):
            client.submit(SAMPLE.name, [{"review": "a"}], **keys, ids=["x"])

    @pytest.mark.parametrize("ids", [["x"], ["x", "y", "z"]])
    def test_ids_must_be_as_many(self, client: Client, database: Database, ids: list[str]) -> None:
        with pytest.raises(BatchmillError, match=r"differ in number: one of them ends before item [23]"):
            client.submit(SAMPLE.name, ["a", "b"], ids=ids)

        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    @pytest.mark.parametrize(
        ("inputs", "advice"),
        [
            ("tickets.csv", r"put a single text into a list, or give the files to read with files=\["),
            (b"bytes", "put a single text into a list"),
            ({"text": ["a", "b"]}, "put a single object into a list, or give a table of columns as a DataFrame"),
            ({"a", "b"}, "a set has no order, so sort it into a list"),
            (3, "put a single one into a list"),
        ],
    )
    def test_inputs_that_are_no_list_get_advice(self, client: Client, inputs: Any, advice: str) -> None:
        with pytest.raises(UsageError, match=advice):
            client.submit(SAMPLE.name, inputs)

    def test_bad_items_are_named(self, client: Client, database: Database) -> None:
        with pytest.raises(InvalidRows) as caught:
            client.submit(SAMPLE.name, ["a", None, {"txt": "b"}, float("nan"), {"text": "c", "id": 1.5}])  # type: ignore[list-item]

        assert [problem.partition(":")[0] for problem in caught.value.problems] == [
            "item 2",
            "item 3",
            "item 4",
            "item 5",
        ]
        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    def test_an_error_of_the_callers_own_comes_through(self, client: Client, database: Database) -> None:
        def inputs() -> Iterator[str]:
            yield "a"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            client.submit(SAMPLE.name, inputs())

        assert rows_of_tables(database) == dict.fromkeys(TABLES, 0)

    def test_redis_away_is_a_warning(self, database_url: str, caplog: pytest.LogCaptureFixture) -> None:
        with Client(database_url, "redis://127.0.0.1:1/0") as client:
            batch = client.submit(SAMPLE.name, ["good"])

        assert batch.warning
        assert "the batch is safe in SQL" in batch.warning
        assert batch.id in caplog.text

    def test_making_one_neither_reads_nor_connects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_SLICE_SIZE", "nonsense")

        client = Client("postgresql://127.0.0.1:1/x")

        monkeypatch.delenv("BATCHMILL_SLICE_SIZE")
        with pytest.raises(Unreachable):
            client.batches()


class TestOnceItIsAccepted:
    @pytest.fixture(autouse=True)
    def environment(self, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", sqlite_url)

    @pytest.mark.parametrize(
        "target",
        [
            "models.lifecycle.wakeups.send_wakeups",
            "producer.workers.workers.list_workers",
            "producer.batches.views.get_batch",
        ],
    )
    @pytest.mark.parametrize("options", [(), ("--json",)], ids=["plain", "json"])
    def test_nothing_looks_as_if_it_were_not(
        self, reviews: str, monkeypatch: pytest.MonkeyPatch, target: str, options: tuple[str, ...]
    ) -> None:
        def raises(*_: object) -> None:
            raise KeyError("ssl_cert_reqs")

        monkeypatch.setattr(target, raises)

        result = run("submit", reviews, "-p", SAMPLE.name, *options)

        assert result.exit_code == 0, result.stderr
        said = json.loads(result.stdout)["id"] if options else result.stdout.strip()
        assert said.startswith("batch_")
        assert result.stdout.count(said) == 1

    def test_a_source_that_broke_off_is_said_by_the_exit_code(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl.gz"
        lines = b"".join(b'{"text": "%s"}\n' % os.urandom(30).hex().encode() for _ in range(1_000))
        path.write_bytes(gzip.compress(lines)[:-4_000])

        result = run("submit", str(path), "-p", SAMPLE.name, "--on-invalid", "fail-row")

        assert result.exit_code == 3
        assert "is incomplete" in result.stderr
        errors = run("errors", result.stdout.strip(), "--json").stdout
        assert json.loads(errors)["error_code"] == "source_failed"
