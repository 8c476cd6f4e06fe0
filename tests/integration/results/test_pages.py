import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Boolean, text

import batchmill
from batchmill import Client
from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.errors import NotFound, WaitTimeout
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.states import BatchStatus, JobOutcome
from producer.batches import views
from producer.batches.listing import BatchFilter
from producer.readers.rows import Row, Source
from producer.results import pages, result_columns
from producer.submission import submit
from producer.submission.request import SubmitRequest
from producer.workers import workers
from tests import fake_worker
from tests.factories.batch_rows import execute
from tests.terminals import output_on_terminal

ROOT = Path(__file__).parents[3]
[SAMPLE] = [pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == "sample-sentiment-analysis"]
GOOD = {"label": "POSITIVE", "score": 0.5}
VIEW_TYPES: dict[str, Any] = {
    **dict.fromkeys(result_columns.RESULT_COLUMNS),
    **dict.fromkeys(("input", "output", "passthrough", "guards", "original_input"), Document),
    "truncated": Boolean(),
    "finished_at": UtcDateTime(),
}


@pytest.fixture(autouse=True)
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)


Submitted = Callable[..., str]


@pytest.fixture
def submitted(database: Database) -> Submitted:
    """Submit a batch of so many texts; returns its id."""

    def make(count: int, **fields: Any) -> str:
        rows = (Row(n + 1, f"id {n}", f"text {n}") for n in range(count))
        source = Source("a.jsonl", "line", rows)
        return submit.submit(database, 4, SubmitRequest.create(SAMPLE, **fields), source).batch_id

    return make


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


class TestPages:
    def test_results_come_as_they_landed(self, database: Database, submitted: Submitted) -> None:
        batch_id = submitted(5)
        fake_worker.write_results(database, batch_id, [(3, GOOD), (1, "text_too_long")])
        fake_worker.write_results(database, batch_id, [(0, GOOD)])

        rows = list(pages.iter_results(database, batch_id))

        assert [(row.seq, row.position, row.custom_id, row.input) for row in rows] == [
            (1, 3, "id 3", {"text": "text 3"}),
            (2, 1, "id 1", {"text": "text 1"}),
            (3, 0, "id 0", {"text": "text 0"}),
        ]
        assert (rows[0].status, rows[0].output, rows[0].error_code) == ("succeeded", GOOD, None)
        assert (rows[1].status, rows[1].output, rows[1].error_code) == ("failed", None, "text_too_long")
        assert (rows[0].model, rows[0].revision, rows[0].dtype, rows[0].device) == ("abc", "abc", "float32", "cpu")
        assert rows[0].truncated is False

    def test_a_cursor_goes_on_where_it_was(self, database: Database, submitted: Submitted) -> None:
        batch_id = submitted(5)
        fake_worker.write_results(database, batch_id, [(3, GOOD), (1, GOOD)])
        last = list(pages.iter_results(database, batch_id))[-1].seq
        assert list(pages.iter_results(database, batch_id, last)) == []

        fake_worker.write_results(database, batch_id, [(0, GOOD)])

        assert [row.position for row in pages.iter_results(database, batch_id, last)] == [0]

    @pytest.mark.parametrize(
        ("rows", "characters", "fetched"),
        [(1, 10**6, 32), (2, 10**6, 1), (3, 10**6, 2), (7, 10**6, 32), (8, 10**6, 32), (1000, 1, 1), (1000, 100, 2)],
    )
    def test_pages_make_up_the_whole(
        self,
        database: Database,
        submitted: Submitted,
        monkeypatch: pytest.MonkeyPatch,
        rows: int,
        characters: int,
        fetched: int,
    ) -> None:
        monkeypatch.setattr(pages, "PAGE_ROWS", rows)
        monkeypatch.setattr(pages, "PAGE_CHARACTERS", characters)
        monkeypatch.setattr(pages, "FETCH_ROWS", fetched)
        batch_id, other = submitted(7), submitted(3)
        order = [6, 2, 4, 0, 1, 5, 3]
        fake_worker.write_results(database, batch_id, [(position, GOOD) for position in order])
        fake_worker.write_results(database, other, [(0, GOOD)])

        assert [row.position for row in pages.iter_results(database, batch_id)] == order
        assert [row.position for row in pages.iter_by_position(database, batch_id)] == sorted(order)
        assert [row.position for row in pages.iter_by_position(database, batch_id, after_seq=4)] == [1, 3, 5]
        assert [row.position for row in pages.iter_results(database, batch_id, limit=5)] == order[:5]

    @pytest.mark.parametrize("page", [1, 2, 3, 1000])
    @pytest.mark.parametrize(
        ("statuses", "positions"),
        [
            ([], [6, 2, 4, 0, 1]),
            ([JobOutcome.FAILED], [2, 0]),
            ([JobOutcome.SUCCEEDED], [6, 4, 1]),
            ([JobOutcome.FAILED, JobOutcome.SUCCEEDED], [6, 2, 4, 0, 1]),
            ([JobOutcome.EXPIRED], []),
        ],
    )
    def test_statuses_filter_pages(
        self,
        database: Database,
        submitted: Submitted,
        monkeypatch: pytest.MonkeyPatch,
        page: int,
        statuses: list[JobOutcome],
        positions: list[int],
    ) -> None:
        monkeypatch.setattr(pages, "PAGE_ROWS", page)
        batch_id = submitted(7)
        fake_worker.write_results(
            database, batch_id, [(6, GOOD), (2, "empty_text"), (4, GOOD), (0, "empty_text"), (1, GOOD)]
        )
        later = [position for position in positions if position not in (6, 2)]

        by_seq = pages.iter_results(database, batch_id, statuses=statuses)
        by_position = pages.iter_by_position(database, batch_id, statuses=statuses)

        assert [row.position for row in by_seq] == positions
        assert [row.position for row in by_position] == sorted(positions)
        assert [row.position for row in pages.iter_results(database, batch_id, 2, 2, statuses)] == later[:2]
        assert [row.position for row in pages.iter_by_position(database, batch_id, 2, statuses)] == sorted(later)

    def test_a_page_of_large_rows_is_short(
        self, database: Database, submitted: Submitted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "FETCH_ROWS", 1)
        monkeypatch.setattr(pages, "PAGE_CHARACTERS", 3_000)
        batch_id = submitted(10)
        fake_worker.write_results(database, batch_id, [(position, {"label": "a" * 1_000}) for position in range(10)])

        queries: list[str] = []
        stream_rows = pages.stream_rows

        def record_end(*arguments: Any) -> Iterator[Any]:
            try:
                yield from stream_rows(*arguments)
                queries.append("ended")
            except GeneratorExit:
                queries.append("broken off")
                raise

        monkeypatch.setattr(pages, "stream_rows", record_end)

        listing = list(pages.iter_pages(database, batch_id))

        assert [len(page) for page in listing] == [3, 3, 3, 1]
        assert queries == ["broken off", "ended", "ended", "ended"]

    def test_a_sample_of_positions(self, database: Database, submitted: Submitted) -> None:
        batch_id = submitted(5)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (4, GOOD)])

        assert [row.position for row in pages.fetch_at_positions(database, batch_id, [0, 4])] == [0, 4]

    def test_there_must_be_a_batch(self, database: Database) -> None:
        with pytest.raises(NotFound, match="batchmill ls"):
            list(pages.iter_results(database, "batch_nope"))
        with pytest.raises(NotFound):
            list(pages.iter_by_position(database, "batch_nope"))


class TestBatch:
    def test_a_new_one(self, database: Database, submitted: Submitted) -> None:
        batch = views.get_batch(database, submitted(5))

        assert batch.counts.as_dict() == {
            "total": 5,
            "succeeded": 0,
            "failed": 0,
            "cancelled": 0,
            "expired": 0,
            "unanswered": 5,
        }
        assert (batch.dtype, batch.device, batch.jobs_per_second, batch.padding_share) == (None, None, None, None)

    def test_an_ended_one(self, database: Database, submitted: Submitted) -> None:
        batch_id = submitted(5)
        fake_worker.write_results(database, batch_id, [(1, "text_too_long"), *((n, GOOD) for n in (0, 2, 3, 4))])
        fake_worker.end_batch(database, batch_id)

        batch = views.get_batch(database, batch_id)

        assert batch.status == "completed"
        assert batch.counts.as_dict() == {
            "total": 5,
            "succeeded": 4,
            "failed": 1,
            "cancelled": 0,
            "expired": 0,
            "unanswered": 0,
        }
        assert (batch.dtype, batch.device, batch.revision) == ("float32", "cpu", "abc")
        assert batch.padding_share == 0.25
        assert batch.jobs_per_second is not None
        assert 1.9 < batch.jobs_per_second < 2.1  # over two seconds, without the failure, which no claim wrote
        assert batch.timestamps["completed_at"] is not None

    def test_the_newest_come_first(self, database: Database, submitted: Submitted) -> None:
        ids = [submitted(1) for _ in range(5)]
        fake_worker.end_batch(database, ids[0], BatchStatus.CANCELLED)

        assert [batch.id for batch in views.list_batches(database, 3)] == ids[:1:-1]
        assert [batch.id for batch in views.list_batches(database, 3, BatchFilter(status="cancelled"))] == ids[:1]


class TestWorkers:
    def test_ages_are_by_the_databases_clock(self, database: Database) -> None:
        fake_worker.register_worker(database, "p", heartbeat_age_seconds=100)
        fake_worker.register_worker(database, "p", heartbeat_age_seconds=5)

        workers_by_id = {worker.id: worker for worker in workers.list_workers(database, lease_seconds=30)}

        assert workers_by_id["w-5"].alive
        assert not workers_by_id["w-100"].alive
        assert 99 < workers_by_id["w-100"].heartbeat_seconds_ago < 700

    def test_the_command(self, database: Database) -> None:
        assert "no worker runs" in run("workers").stderr
        fake_worker.register_worker(database, "p")
        fake_worker.register_worker(database, "q", heartbeat_age_seconds=1000)

        lines = run("workers").stdout.splitlines()
        header = ["PIPELINE", "HOST", "PID", "DEVICE", "STATE", "BUSY", "JOBS/S", "HEARTBEAT", "MODEL"]
        assert lines[0].split() == header
        assert [line.split()[4] for line in lines[1:]] == ["ready", "gone"]
        assert [worker["alive"] for worker in json.loads(run("workers", "--json").stdout)["data"]] == [True, False]


class TestHandle:
    def test_wait_then_read(self, database_url: str, database: Database, submitted: Submitted) -> None:
        batch_id = submitted(3)
        client = Client(database_url)
        batch = client.batch(batch_id)

        def work() -> None:
            fake_worker.write_results(database, batch_id, [(n, GOOD) for n in range(3)])
            fake_worker.end_batch(database, batch_id)

        worker = threading.Timer(0.2, work)
        worker.start()

        assert batch.wait(timeout=180) is batch
        worker.join()
        assert batch.status == "completed"
        assert batch.request_counts.succeeded == 3
        assert [row.output for row in batch.results()] == [GOOD] * 3
        assert [row.position for row in batch.results(after=2)] == [2]
        client.close()

    def test_waiting_runs_out(self, database_url: str, submitted: Submitted) -> None:
        with Client(database_url) as client, pytest.raises(WaitTimeout, match="0 of 3 jobs done, and goes on"):
            client.batch(submitted(3)).wait(timeout=0.1)

    def test_there_must_be_a_batch(self, database_url: str) -> None:
        with Client(database_url) as client, pytest.raises(NotFound):
            client.batch("batch_nope")


class TestPolling:
    """`ls`, `show` and `wait`."""

    def test_ls(self, submitted: Submitted) -> None:
        assert "there are no batches yet" in run("ls").stderr
        first, second = submitted(3, name="mine\x1b[2J"), submitted(1)

        result = run("ls")

        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["BATCH", second, first]
        assert "0/3" in lines[2]
        assert "mine" in lines[2]
        assert "\x1b" not in result.stdout
        document = json.loads(run("ls", "--json", "--limit", "1").stdout)
        assert [batch["id"] for batch in document["data"]] == [second]

    def test_show(self, database: Database, submitted: Submitted) -> None:
        batch_id = submitted(2, parameters={"top_k": 1})
        assert "no worker serves" in run("show", batch_id).stderr
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "text_too_long")])
        fake_worker.end_batch(database, batch_id)

        result = run("show", batch_id)

        assert result.exit_code == 0
        facts = {
            line.partition("  ")[0].strip(): line.partition("  ")[2].strip() for line in result.stdout.splitlines()
        }
        assert facts["status"] == "completed"
        assert facts["jobs"] == "2 in all"
        assert facts["model"] == "bundled:sentiment-analysis@abc"
        assert facts["ran as"] == "float32 on cpu"
        assert facts["padding"] == "25.0% of the tokens"
        assert f"batchmill results {batch_id}" in result.stderr
        document = json.loads(run("show", batch_id, "--json").stdout)
        assert document == views.get_batch(database, batch_id).as_dict() | {
            "follower_batch_ids": [],
            "webhook_events": [],
        }

    @pytest.mark.parametrize(
        ("ending", "status", "code"),
        [
            ([GOOD, GOOD], BatchStatus.COMPLETED, 0),
            ([GOOD, "text_too_long"], BatchStatus.COMPLETED, 3),
            ([], BatchStatus.FAILED, 1),
            ([], BatchStatus.CANCELLED, 1),
        ],
    )
    def test_wait_exits_as_the_batch_ended(
        self, database: Database, submitted: Submitted, ending: list[Any], status: BatchStatus, code: int
    ) -> None:
        batch_id = submitted(2)
        fake_worker.write_results(database, batch_id, list(enumerate(ending)))
        fake_worker.end_batch(database, batch_id, status)

        result = run("wait", batch_id)

        assert result.exit_code == code
        assert result.stdout == ""
        assert f"{batch_id} {status}: 2 jobs" in result.stderr
        assert json.loads(run("wait", batch_id, "--json").stdout)["status"] == status

    def test_wait_may_run_out(self, submitted: Submitted) -> None:
        result = run("wait", submitted(2), "--timeout", "0.1")

        assert result.exit_code == 124
        assert "0 of 2 jobs done" in result.stderr

    @pytest.mark.parametrize("command", ["show", "wait", "results"])
    def test_an_unknown_batch_is_exit_4(self, command: str) -> None:
        result = run(command, "batch_nope")

        assert result.exit_code == 4
        assert result.stdout == ""
        assert result.stderr == "batchmill: there is no batch 'batch_nope'; list the batches: batchmill ls\n"

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    def test_ctrl_c_says_how_to_come_back(self, submitted: Submitted) -> None:
        batch_id = submitted(2)
        with subprocess.Popen(
            [sys.executable, "-m", "batchmill", "wait", batch_id],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            # Progress lines come every few seconds: the first shows that it waits.
            assert process.stderr
            assert b"running: 0 of 2 jobs" in process.stderr.readline()

            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=180)

        assert process.returncode == 130
        assert out == b""
        assert f"{batch_id} continues; return to it: batchmill wait {batch_id}" in error.decode()


class TestResultsCommand:
    @pytest.fixture
    def batch_id(self, database: Database, submitted: Submitted) -> str:
        batch_id = submitted(3)
        fake_worker.write_results(database, batch_id, [(2, GOOD), (0, "text_too_long"), (1, GOOD)])
        fake_worker.end_batch(database, batch_id)
        return batch_id

    def test_json_lines_as_they_landed(self, batch_id: str) -> None:
        rows = [json.loads(line) for line in run("results", batch_id).stdout.splitlines()]

        assert [row["position"] for row in rows] == [2, 0, 1]
        assert rows[0]["output"] == GOOD
        assert rows[1]["error_code"] == "text_too_long"
        assert run("results", batch_id, "--json").stdout == run("results", batch_id).stdout

    def test_after(self, batch_id: str) -> None:
        rows = [json.loads(line) for line in run("results", batch_id, "--after", "2").stdout.splitlines()]

        assert [row["seq"] for row in rows] == [3]

    def test_a_csv_file_by_position(self, batch_id: str, tmp_path: Path) -> None:
        path = tmp_path / "out.csv"

        result = run("results", batch_id, "-o", str(path))

        assert result.stdout == ""
        assert result.stderr == f"wrote 3 results to {path}\n"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["text"] for row in rows] == ["text 0", "text 1", "text 2"]
        assert [row["label"] for row in rows] == ["", "POSITIVE", "POSITIVE"]
        assert rows[0]["error_code"] == "text_too_long"

    def test_a_jsonl_file_by_position(self, batch_id: str, tmp_path: Path) -> None:
        path = tmp_path / "out.jsonl"

        run("results", batch_id, "-o", str(path))

        assert [json.loads(line)["position"] for line in path.read_text().splitlines()] == [0, 1, 2]

    def test_a_batch_that_still_runs_says_what_is_missing(
        self, database: Database, submitted: Submitted, tmp_path: Path
    ) -> None:
        batch_id = submitted(3)
        fake_worker.write_results(database, batch_id, [(1, GOOD)])

        result = run("results", batch_id, "-o", str(tmp_path / "out.csv"))

        assert result.exit_code == 0
        assert "wrote 1 results" in result.stderr
        assert "2 jobs of the batch are unanswered" in result.stderr

    @pytest.mark.parametrize(
        ("name", "words"), [("out.xlsx", "call it .jsonl, .csv, .parquet or .npy"), ("no/out.csv", "no folder")]
    )
    def test_a_target_that_cannot_be_is_exit_2(self, batch_id: str, tmp_path: Path, name: str, words: str) -> None:
        result = run("results", batch_id, "-o", str(tmp_path / name))

        assert result.exit_code == 2
        assert words in result.stderr

    @pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
    def test_on_a_terminal_results_steer_nothing(self, database: Database) -> None:
        steering = "\x1b[2J\x9b31m\u202e"
        rows = iter([Row(1, f"id{steering}", f"text{steering}")])
        batch_id = submit.submit(database, 4, SubmitRequest.create(SAMPLE), Source("a", "line", rows)).batch_id
        fake_worker.write_results(database, batch_id, [(0, {"label": f"x{steering}", "score": 1.0})])

        for arguments in (["results", batch_id], ["results", batch_id, "--json"], ["show", batch_id, "--json"]):
            shown = output_on_terminal(arguments, "stdout")
            assert "text" in shown or "batch" in shown
            assert not any(character in shown for character in steering[:1] + steering[4] + steering[-1])


def test_pages_say_what_the_view_says(database: Database, submitted: Submitted) -> None:
    batch_id = submitted(3)
    fake_worker.write_results(database, batch_id, [(2, GOOD), (0, "text_too_long")])
    tokens = "UPDATE results SET input_tokens = 7, output_tokens = 3, finish_reason = 'stop' WHERE position = 2"
    execute(database, tokens)

    with database.read() as connection:
        query = f"SELECT {', '.join(result_columns.RESULT_COLUMNS)} FROM job_results ORDER BY position"
        view_rows = [dict(row) for row in connection.execute(text(query).columns(**VIEW_TYPES)).mappings()]

    for listing in (pages.iter_by_position(database, batch_id), pages.iter_results(database, batch_id)):
        rows = sorted(listing, key=lambda row: row.position)
        assert [{name: getattr(row, name) for name in result_columns.RESULT_COLUMNS} for row in rows] == view_rows


def test_the_view_is_the_documented_one(database: Database) -> None:
    with database.read() as connection:
        names = list(connection.execute(text("SELECT * FROM job_results")).keys())

    assert names == [
        "batch_id",
        "position",
        "custom_id",
        "input",
        "status",
        "output",
        "error_code",
        "error_message",
        "truncated",
        "pipeline",
        "task",
        "model",
        "revision",
        "dtype",
        "device",
        "attempts",
        "seq",
        "submitted_at",
        "finished_at",
        "passthrough",
        "reused_from",
        "windows",
        "guards",
        "original_input",
        "vector",
        "source_batch_id",
        "source_position",
        "adapter",
        "adapter_revision",
        "tenant",
        "input_tokens",
        "output_tokens",
        "finish_reason",
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("command", "encoding"),
    [
        (("results",), "ascii"),
        (("results",), "latin-1"),
        (("results",), "utf-8"),
        (("show",), "ascii"),
        (("show", "--json"), "latin-1"),
        (("ls",), "latin-1"),
        (("ls", "--json"), "ascii"),
    ],
)
def test_standard_output_may_lack_characters(database: Database, encoding: str, command: tuple[str, ...]) -> None:
    request = SubmitRequest.create(SAMPLE, name="good \U0001f600 día")
    rows = iter([Row(1, None, {"text": "good \U0001f600 día"})])
    batch_id = submit.submit(database, 10, request, Source("a", "line", rows)).batch_id
    fake_worker.write_results(database, batch_id, [(0, GOOD)])
    words = [command[0], *([] if command[0] == "ls" else [batch_id]), *command[1:]]

    done = subprocess.run(
        [sys.executable, "-m", "batchmill", *words],
        cwd=ROOT,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )

    assert done.returncode == 0, done.stderr
    if command[-1] in ("results", "--json"):
        assert "good \U0001f600 día" in json.dumps(json.loads(done.stdout), ensure_ascii=False)
