"""Cursors on both databases: while ten writers race, a reader that only ever goes forward misses no row."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchmill
from models.db import Database
from models.errors import NotFound
from models.states import JobOutcome
from producer.results import following
from producer.results import pages as results_pages
from tests import fake_worker
from tests.factories import batch_rows
from tests.factories.batch_rows import MODEL_VERSION, claimant_for, insert_batch
from tests.threads import run_concurrently
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.loading import versions

ROOT = Path(__file__).parents[3]
GOOD = {"label": "POSITIVE", "score": 0.5}
WRITERS, SLICE_JOBS, SLICES = 10, 4, 40


class Writer:
    """A worker: takes one slice after the other, and closes each in two writes, as micro-batches come."""

    def __init__(self, database_url: str, name: str, version_id: int) -> None:
        self._url, self._name, self._version_id = database_url, name, version_id

    def run(self) -> int:
        database = Database(self._url)
        written = 0
        try:
            while leases := claims.claim(database, claimant_for(self._name), 1, SLICE_JOBS):
                [lease] = leases
                for half, finished in ((range(2), False), (range(2, 4), True)):
                    rows = [JobResult(lease, lease.start_position + n, JobOutcome.SUCCEEDED, output="{}") for n in half]
                    done = {lease.slice_id} if finished else set()
                    with database.write() as connection:
                        written += commit.commit_results(
                            connection, BatchCommit(leases, rows, done, self._version_id)
                        ).results_written
        finally:
            database.close()
        return written


def test_a_polling_cursor_sees_each_row_of_racing_writers_once(database: Database, database_url: str) -> None:
    jobs = SLICE_JOBS * SLICES
    batch_id = insert_batch(database, jobs, slice_size=SLICE_JOBS)
    version_id = versions.register_version(database, MODEL_VERSION)
    started = threading.Event()

    def poll() -> int:
        reader, positions, looks = Database(database_url), [], 0
        cursor = 0
        try:
            while len(positions) < jobs and looks < 100_000:
                # A page of three: most looks end amid what is being written.
                page = list(results_pages.iter_results(reader, batch_id, cursor, 3))
                positions += [row.position for row in page]
                cursor = page[-1].seq if page else cursor
                looks += 1
                started.set()
        finally:
            reader.close()
        assert len(positions) == len(set(positions))
        return len(positions)

    def write(name: str) -> int:
        assert started.wait(180)
        return Writer(database_url, name, version_id).run()

    counted, *written = run_concurrently(poll, *[lambda name=f"worker-{n}": write(name) for n in range(WRITERS)])

    assert sum(written) == jobs
    assert counted == jobs
    assert [row.seq for row in results_pages.iter_results(database, batch_id)] == list(range(1, jobs + 1))
    batch_rows.assert_consistent(database, batch_id)


class TestFollowing:
    def test_goes_on_until_the_batch_has_ended(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (1, GOOD)])
        pauses = []

        def meanwhile(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                fake_worker.write_results(database, batch_id, [(3, GOOD)])
            if len(pauses) == 4:
                fake_worker.write_results(database, batch_id, [(2, GOOD)])
                fake_worker.end_batch(database, batch_id)

        pages = [[row.position for row in page] for page in following.follow(database, batch_id, 0, meanwhile)]

        assert pages == [[0, 1], [3], [2]]
        assert pauses[0] < pauses[1]
        assert pauses[2] == pauses[0], "where something landed, more may come soon"

    def test_begins_behind_the_cursor(self, database: Database) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(place, GOOD) for place in (2, 0, 1)])
        fake_worker.end_batch(database, batch_id)

        assert [[row.position for row in page] for page in following.follow(database, batch_id, 1)] == [[0, 1]]

    def test_a_batch_that_goes_away_is_said(self, database: Database) -> None:
        batch_id = insert_batch(database, 3)

        def vanish(_: float) -> None:
            batch_rows.execute(database, "DELETE FROM batches WHERE id = :id", id=batch_id)

        with pytest.raises(NotFound):
            list(following.follow(database, batch_id, 0, vanish))


class TestCommand:
    def test_ctrl_c_prints_the_cursor_to_go_on_from(self, database: Database, database_url: str) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(0, GOOD)])
        with follow(database_url, batch_id) as process:
            assert process.stdout
            first = json.loads(process.stdout.readline())
            fake_worker.write_results(database, batch_id, [(2, GOOD)])
            second = json.loads(process.stdout.readline())

            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=180)

        assert [first["position"], second["position"]] == [0, 2]
        assert (process.returncode, out) == (130, b"")
        # A row in the midst of being printed may come again; none is left out.
        assert re.search(rf"batchmill results {batch_id} --follow --after [12]$", error.decode(), re.MULTILINE)

    def test_the_cursor_is_behind_the_last_row_printed(
        self, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch_id = insert_batch(database, 3)
        fake_worker.write_results(database, batch_id, [(0, GOOD), (2, GOOD)])
        monkeypatch.setenv("BATCHMILL_DATABASE_URL", database_url)
        monkeypatch.setattr(following.time, "sleep", interrupt)

        result = CliRunner().invoke(batchmill.cli, ["results", batch_id, "--follow"])

        assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == [1, 2]
        assert f"batchmill results {batch_id} --follow --after 2\n" in result.stderr
        assert result.exit_code == 130

    def test_it_ends_with_the_batch(self, database: Database, database_url: str) -> None:
        batch_id = insert_batch(database, 2)
        fake_worker.write_results(database, batch_id, [(0, GOOD)])
        with follow(database_url, batch_id) as process:
            assert process.stdout
            lines = [process.stdout.readline()]
            fake_worker.write_results(database, batch_id, [(1, GOOD)])
            fake_worker.end_batch(database, batch_id)
            rest, _ = process.communicate(timeout=180)

        lines += rest.splitlines()
        assert [json.loads(line)["seq"] for line in lines] == [1, 2]
        assert process.returncode == 0


def interrupt(_: float) -> None:
    raise KeyboardInterrupt


def follow(database_url: str, batch_id: str) -> "subprocess.Popen[bytes]":
    """`results --follow` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "batchmill", "results", batch_id, "--follow"],
        cwd=ROOT,
        env={**os.environ, "BATCHMILL_DATABASE_URL": database_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
