"""`batchmill watch` on both databases: who works on a batch, what failed, and how it is told."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import insert

import batchmill
from models.db import Database
from models.errors import NotFound
from models.tables.workers import Worker
from producer.batches.actions import retry
from producer.batches.actions.retry import RetrySelection
from producer.batches.progress.progress_tracker import ProgressTracker
from tests import fake_worker
from tests.factories.batch_rows import claimant_for, insert_batch
from tests.terminals import output_on_terminal
from worker.leasing.claiming import claims

ROOT = Path(__file__).parents[4]
GOOD = {"label": "POSITIVE", "score": 0.5}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


def sign_on(database: Database, worker_id: str) -> None:
    row = {"id": worker_id, "host": "here", "pid": 7, "device": "cpu", "pipeline": "reviews", "model": "m"}
    with database.write() as connection:
        connection.execute(insert(Worker).values(**row, served_pipelines=["reviews"], state="ready"))


class TestProgressTracker:
    def test_active_workers(self, database: Database) -> None:
        batch_id = insert_batch(database, 10)
        sign_on(database, "worker-1")
        claims.claim(database, claimant_for("worker-1"), 8, 4)
        claims.claim(database, claimant_for("worker-2"), 1, 4)
        insert_batch(database, 4)
        claims.claim(database, claimant_for("worker-3"), 1, 4)

        progress = ProgressTracker(database, batch_id).poll()

        workers = {
            (holder.worker_id, holder.host, holder.device, holder.slices, holder.jobs)
            for holder in progress.active_workers
        }
        assert workers == {("worker-1", "here", "cpu", 2, 8), ("worker-2", None, None, 1, 2)}

    def test_failures_by_code_grow_with_the_results(self, database: Database) -> None:
        batch_id = insert_batch(database, 8)
        tracker = ProgressTracker(database, batch_id)
        assert tracker.poll().failures == ()

        fake_worker.write_results(database, batch_id, [(0, "empty_text"), (1, GOOD)])
        assert tracker.poll().failures == (("empty_text", 1),)
        fake_worker.write_results(database, batch_id, [(2, "text_too_long"), (3, "text_too_long"), (4, GOOD)])

        assert tracker.poll().failures == (("text_too_long", 2), ("empty_text", 1))
        assert tracker.poll().failures == (("text_too_long", 2), ("empty_text", 1))

    def test_a_replay_takes_failures_back(self, database: Database) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(0, "empty_text"), (1, "text_too_long"), (2, GOOD)])
        fake_worker.end_batch(database, batch_id)
        tracker = ProgressTracker(database, batch_id)
        assert len(tracker.poll().failures) == 2

        retry.retry_jobs(database, batch_id, RetrySelection(codes=("empty_text",)), 4)

        assert tracker.poll().failures == (("text_too_long", 1),)

    def test_there_must_be_one(self, database: Database) -> None:
        with pytest.raises(NotFound):
            ProgressTracker(database, "batch_nope").poll()


class TestCommand:
    @pytest.fixture
    def batch_id(self, database: Database) -> str:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, "empty_text"), (2, GOOD)])
        fake_worker.end_batch(database, batch_id)
        return batch_id

    def test_it_exits_as_wait_does(self, batch_id: str) -> None:
        result = run("watch", batch_id)

        assert result.exit_code == run("wait", batch_id).exit_code == 3
        assert result.stderr == run("wait", batch_id).stderr
        assert result.stdout == ""

    def test_json(self, batch_id: str) -> None:
        [line] = run("watch", batch_id, "--json").stdout.splitlines()

        document = json.loads(line)
        assert document["object"] == "batch.progress"
        assert document["batch"]["id"] == batch_id
        assert (document["failures"], document["workers"], document["eta"]) == ({"empty_text": 1}, [], None)

    def test_it_may_run_out(self, database: Database) -> None:
        assert run("watch", insert_batch(database, 2), "--timeout", "0").exit_code == 124

    def test_an_unknown_batch_is_exit_4(self, database: Database) -> None:
        for arguments in (["watch", "batch_nope"], ["watch", "batch_nope", "--json"]):
            assert run(*arguments).exit_code == 4

    def test_on_a_terminal_it_is_a_view(self, batch_id: str) -> None:
        shown = output_on_terminal(["watch", batch_id], "stderr", exit_code=3, COLUMNS="120", TERM="xterm")

        assert "3/3 jobs" in shown
        assert "2 succeeded, 1 failed" in shown
        assert "1 empty_text" in shown
