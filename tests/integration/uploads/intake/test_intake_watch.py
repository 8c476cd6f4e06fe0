"""The processes that a server starts to read files: one for any, one for small ones, and both end with it."""

from contextlib import closing

import pytest
from sqlalchemy import text

from models.db import Database
from models.dialects.fragments import SQL_FRAGMENTS
from models.lifecycle import due_intakes
from models.lifecycle.due_intakes import SMALL_FILE_BYTES
from models.states import BatchStatus
from producer.batches import views
from producer.uploads.intake import intake, intake_watch
from producer.uploads.intake.intake_watch import IntakeWatch
from tests.factories.batch_rows import execute
from tests.integration.uploads.conftest import Uploads, lines
from tests.servers import wait_until


def test_a_file_is_read_by_a_process_of_the_server(uploads: Uploads) -> None:
    with IntakeWatch(uploads.intake):
        opened = uploads.open(uploads.upload(lines(3)))
        wait_until(
            lambda: views.get_batch(uploads.database, opened.id).status is BatchStatus.IN_PROGRESS,
            "the batch to be accepted",
        )


def test_sqlite_looks_only_at_batches_whose_files_are_not_read(sqlite_url: str) -> None:
    moments = {"now": SQL_FRAGMENTS["sqlite"].now, "later": SQL_FRAGMENTS["sqlite"].now_plus_seconds}
    query = text(f"EXPLAIN QUERY PLAN {due_intakes.SELECT_OPEN.format(**moments)}")

    with closing(Database(sqlite_url)) as database, database.write() as connection:
        connection.execute(text("ANALYZE"))
        plan = connection.execute(query, {"seconds": -6, "locations": "%", "most": 9}).all()

    assert [row.detail for row in plan if "SCAN batches" in row.detail] == ["SCAN batches USING INDEX batches_to_read"]


class TestWhichProcess:
    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
        """The commands that were started, none of which ends."""
        commands: list[tuple[str, ...]] = []

        class Running:
            stdin = None

            def __init__(self, command: list[str], **_: object) -> None:
                commands.append(tuple(command[4:]))

            def poll(self) -> None:
                return None

        monkeypatch.setattr("models.processes.command_launcher.subprocess.Popen", Running)
        return commands

    def test_none_is_started_while_nothing_waits(self, uploads: Uploads, started: list[tuple[str, ...]]) -> None:
        uploads.open(uploads.upload(lines(1)), here=True)
        IntakeWatch(uploads.intake).run_once()
        assert started == []

    def test_a_small_file_never_waits_for_a_large_one(self, uploads: Uploads, started: list[tuple[str, ...]]) -> None:
        watch = IntakeWatch(uploads.intake)
        uploads.open(uploads.upload(lines(1)))
        execute(uploads.database, "UPDATE files SET bytes = :size", size=SMALL_FILE_BYTES + 1)
        watch.run_once()
        assert started == [("intake", "--exit-with-parent")]

        uploads.open(uploads.upload(lines(1)))
        watch.run_once()
        watch.run_once()
        assert started[1:] == [("intake", "--small", "--exit-with-parent")]

    def test_a_tenant_never_waits_for_another_ones_files(
        self, uploads: Uploads, started: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given two processes that read files of one tenant, which has a third
        watch = IntakeWatch(uploads.intake)
        for _ in range(3):
            uploads.open(uploads.upload(lines(1), tenant="crowd"), tenant="crowd")
        watch.run_once()
        watch.run_once()
        uploads.open(uploads.upload(lines(1), tenant="crowd"), tenant="crowd", here=True)
        monkeypatch.setattr(intake_watch, "TURN_SECONDS", 0.0)
        watch.run_once()
        assert len(started) == 2

        # When another tenant's file comes
        other = uploads.open(uploads.upload(lines(1), tenant="other"), tenant="other")
        watch.run_once()

        # Then a third process is started for it, and reads no other
        assert started[2:] == [("intake", "--unserved", "--exit-with-parent")]
        assert intake.take_in_waiting(uploads.intake, unserved_tenants=True) == 1
        assert views.get_batch(uploads.database, other.id).status is BatchStatus.IN_PROGRESS
