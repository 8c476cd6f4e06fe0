"""A batch whose file is read later: accepted or failed exactly once, whoever is killed in between."""

import gzip
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import pytest

from models.db import Database
from models.errors import FileStoreUnavailable, IdempotencyConflict, NotFound, TooManyJobs, UsageError
from models.processes import failpoints
from models.processes.command_launcher import EXIT_NOTHING_DUE
from models.settings import Settings
from models.states import BatchStatus
from producer.batches import views
from producer.batches.actions import cancel
from producer.submission import chunks, job_writer, submit
from producer.uploads.intake import intake, takeover
from producer.uploads.intake.intake import Intake, Outcome
from producer.uploads.intake.opening import OpenedBatch
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.storage.store import FileStore
from tests.factories.batch_rows import assert_consistent, execute, get_batch
from tests.integration.uploads.conftest import PIPELINE, Uploads, lines
from tests.servers import wait_until
from worker.maintenance import batch_endings, tasks
from worker.maintenance.intake_launcher import MAX_IDLE_SECONDS, IntakeLauncher
from worker.maintenance.loop import MaintenanceLoop


class Killed(BaseException):
    """Ends a reader as SIGKILL does: it handles nothing any more."""


@pytest.fixture(autouse=True)
def failpoints_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill() -> None:
        raise Killed

    monkeypatch.setattr(failpoints, "_raise_failure", kill)


FAIL_ROW = ReadRequest(on_invalid="fail-row")


def silence(database: Database) -> None:
    """Let every holder of a batch seem to be on a machine that no one hears from."""
    execute(database, "UPDATE batches SET holder_id = 'elsewhere', holder_heartbeat_at = '2020-01-01 00:00:00+00:00'")


def test_a_file_becomes_the_jobs_of_its_batch(uploads: Uploads) -> None:
    opened = uploads.open(uploads.upload(lines(5)), name="five")
    assert views.get_batch(uploads.database, opened.id).status is BatchStatus.VALIDATING

    assert intake.take_in_waiting(uploads.intake) == 1

    batch = views.get_batch(uploads.database, opened.id)
    assert (batch.status, batch.counts.total, batch.name) == (BatchStatus.IN_PROGRESS, 5, "five")
    assert get_batch(uploads.database, opened.id).read_request is None
    assert intake.take_in_waiting(uploads.intake) == 0
    assert_consistent(uploads.database, opened.id)


@pytest.mark.parametrize("read_request", [ReadRequest(), FAIL_ROW, ReadRequest(on_invalid="fail-row", reuse=True)])
@pytest.mark.parametrize("hit", [1, 2, 3])
def test_another_process_goes_on_behind_a_killed_one(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, read_request: ReadRequest, hit: int
) -> None:
    # Given three chunks, after one of which the reader is killed
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    content = lines(9) + '{"custom_id": "bad"}\n' if read_request.keep_invalid else lines(10)
    opened = uploads.open(uploads.upload(content), read_request)
    failpoints.arm(f"after_ingest_chunk:raise@{hit}")
    with pytest.raises(Killed):
        uploads.intake.take_in(opened.id)
    failpoints.arm("")
    assert intake.take_in_waiting(uploads.intake) == 0, "its holder is not known to be gone"

    # When it is silent for long enough, and another process takes over
    silence(uploads.database)
    assert intake.take_in_waiting(uploads.intake) == 1

    # Then each row is there once, in its order
    batch = views.get_batch(uploads.database, opened.id)
    assert (batch.status, batch.counts.total) == (BatchStatus.IN_PROGRESS, 10)
    assert batch.counts.failed == read_request.keep_invalid
    with uploads.database.read() as connection:
        ids = connection.exec_driver_sql("SELECT custom_id FROM jobs ORDER BY position").scalars().all()
    assert ids == [*(f"row-{number}" for number in range(9)), "bad" if read_request.keep_invalid else "row-9"]
    assert_consistent(uploads.database, opened.id)
    assert intake.take_in_waiting(uploads.intake) == 0


@pytest.mark.parametrize("point", ["before_intake", "after_intake"])
def test_a_reader_that_is_killed_before_or_after_its_work_is_followed(uploads: Uploads, point: str) -> None:
    opened = uploads.open(uploads.upload(lines(3)))
    failpoints.arm(f"{point}:raise")
    with pytest.raises(Killed):
        uploads.intake.take_in(opened.id)
    failpoints.arm("")
    silence(uploads.database)

    intake.take_in_waiting(uploads.intake)

    assert views.get_batch(uploads.database, opened.id).counts.total == 3
    assert_consistent(uploads.database, opened.id)


def test_a_reader_that_lost_its_batch_changes_nothing_more(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a reader that is slow after its first chunk
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    opened = uploads.open(uploads.upload(lines(6)))
    outcomes: list[Outcome] = []
    pauses = iter([True])

    def overtake(_: str) -> None:
        if next(pauses, False):
            silence(uploads.database)
            outcomes.append(uploads.intake.take_in(opened.id))

    # When another one takes over meanwhile
    monkeypatch.setattr(job_writer, "failpoint", overtake)
    outcomes.append(uploads.intake.take_in(opened.id))

    # Then that one accepts the batch
    assert outcomes == [Outcome.ACCEPTED, Outcome.LOST]
    assert views.get_batch(uploads.database, opened.id).counts.total == 6
    assert_consistent(uploads.database, opened.id)


def test_invalid_lines_fail_the_batch_and_are_listed(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    content = lines(4) + '{"custom_id": "row-0", "text": "again"}\nnot json\n' + lines(3, start=4)
    opened = uploads.open(uploads.upload(content))

    assert uploads.intake.take_in(opened.id) is Outcome.FAILED

    batch = views.get_batch(uploads.database, opened.id)
    assert (batch.status, batch.error_code, batch.counts.total) == (BatchStatus.FAILED, "invalid_rows", 0)
    assert [(error["code"], error["line"]) for error in batch.input_errors] == [("invalid_row", 6)]
    assert get_batch(uploads.database, opened.id).read_request is None
    assert_consistent(uploads.database, opened.id)


def test_many_invalid_lines_are_listed_up_to_a_bound(uploads: Uploads) -> None:
    opened = uploads.open(uploads.upload("{}\n" * 300))
    uploads.intake.take_in(opened.id)

    batch = views.get_batch(uploads.database, opened.id)
    assert batch.status is BatchStatus.FAILED
    assert len(batch.input_errors) <= 100
    assert "line 1" in str(batch.error_message)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_fails_the_batch(uploads: Uploads, content: str) -> None:
    opened = uploads.open(uploads.upload(content))
    assert uploads.intake.take_in(opened.id) is Outcome.FAILED
    assert views.get_batch(uploads.database, opened.id).error_code == "unreadable_source"


def test_a_compressed_file_is_read_within_the_limits_of_sources(uploads: Uploads) -> None:
    bomb = gzip.compress(b'{"text": "' + b"a" * 50 * 2**20 + b'"}\n')
    opened = uploads.open(uploads.upload(bomb))
    assert uploads.intake.take_in(opened.id) is Outcome.FAILED
    assert views.get_batch(uploads.database, opened.id).input_errors[0]["code"] == "row_too_large"

    good = uploads.open(uploads.upload(gzip.compress(lines(3).encode())))
    assert uploads.intake.take_in(good.id) is Outcome.ACCEPTED


def test_a_file_of_another_machine_is_left_to_it(uploads: Uploads, tmp_path: Path) -> None:
    opened = uploads.open(uploads.upload(lines(2)))
    elsewhere = uploads.other_machine(tmp_path / "elsewhere")

    assert intake.take_in_waiting(elsewhere) == 0
    assert views.get_batch(uploads.database, opened.id).status is BatchStatus.VALIDATING
    assert intake.take_in_waiting(uploads.intake) == 1


def test_many_files_of_another_machine_hold_up_no_file_of_this_one(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_OPEN_BATCHES", 2)
    elsewhere = Uploads(uploads.database, uploads.settings.model_copy(update={"home": tmp_path / "elsewhere"}))
    for place in (elsewhere, elsewhere, uploads):
        opened = place.open(place.upload(lines(1)))

    assert intake.take_in_waiting(uploads.intake) == 1
    assert views.get_batch(uploads.database, opened.id).status is BatchStatus.IN_PROGRESS


def test_a_file_that_lost_its_last_lines_fails_the_batch(uploads: Uploads) -> None:
    file = uploads.upload(lines(5))
    assert file.location is not None
    path = uploads.settings.home_path / "files" / file.location.partition("/")[2]
    path.write_text(lines(3))
    opened = uploads.open(file)

    intake.take_in_waiting(uploads.intake)

    batch = views.get_batch(uploads.database, opened.id)
    assert (batch.status, batch.error_code, batch.counts.total) == (BatchStatus.FAILED, "missing_source", 0)


def test_bytes_that_are_gone_fail_the_batch(uploads: Uploads) -> None:
    file = uploads.upload(lines(2))
    opened = uploads.open(file)
    uploads.intake.store.delete(str(file.location))
    assert uploads.intake.take_in(opened.id) is Outcome.FAILED
    assert views.get_batch(uploads.database, opened.id).error_code == "missing_source"


def test_a_pipeline_that_this_machine_lacks_is_left_to_others(uploads: Uploads) -> None:
    opened = uploads.open(uploads.upload(lines(2)))
    execute(uploads.database, "UPDATE batches SET pipeline = 'gone'")
    before = get_batch(uploads.database, opened.id)
    for _ in range(takeover.MAX_STARTS + 2):
        assert uploads.intake.take_in(opened.id) is Outcome.NOT_HERE
    row = get_batch(uploads.database, opened.id)
    assert (row.status, row.holder_id, row.holder_heartbeat_at) == ("validating", None, None)
    assert row.read_request == before.read_request


@pytest.mark.parametrize("on_invalid", ["reject", "fail-row"])
def test_a_file_with_more_rows_than_the_tenant_may_have_fails_the_batch(
    database: Database, batchmill_home: Path, monkeypatch: pytest.MonkeyPatch, on_invalid: str
) -> None:
    monkeypatch.setenv("BATCHMILL_TENANTS__ACME__MAX_UNANSWERED_JOBS", "3")
    uploads = Uploads(database, Settings.load())
    file, fits = (uploads.upload(lines(count), tenant="acme") for count in (4, 3))
    opened = uploads.open(file, ReadRequest(on_invalid=on_invalid), tenant="acme", on_invalid=on_invalid)

    assert uploads.intake.take_in(opened.id) is Outcome.FAILED

    batch = views.get_batch(database, opened.id)
    assert (batch.status, batch.counts.unanswered) == ("failed", 0)
    assert batch.error_code in ("too_many_unanswered_jobs", "source_failed")
    assert uploads.intake.take_in(uploads.open(fits, tenant="acme").id) is Outcome.ACCEPTED
    with pytest.raises(TooManyJobs):
        uploads.open(fits, tenant="acme")


def test_a_cancelled_batch_is_not_read(uploads: Uploads) -> None:
    opened = uploads.open(uploads.upload(lines(2)))
    cancel.cancel(uploads.database, opened.id)
    assert uploads.intake.take_in(opened.id) is Outcome.LOST
    assert intake.take_in_waiting(uploads.intake) == 0


@pytest.mark.parametrize("rows_read", [0, 4])
def test_a_batch_whose_deadline_passes_before_it_is_read_expires(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, rows_read: int
) -> None:
    # Given a batch of which nothing was read, or a part
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    opened = uploads.open(uploads.upload(lines(10)))
    if rows_read:
        failpoints.arm("after_ingest_chunk:raise")
        with pytest.raises(Killed):
            uploads.intake.take_in(opened.id)
        failpoints.arm("")
        silence(uploads.database)

    # When its deadline passes
    execute(
        uploads.database, "UPDATE batches SET expires_at = '2020-01-01 00:00:00+00:00' WHERE id = :id", id=opened.id
    )
    loop = MaintenanceLoop(
        uploads.database, tasks.default_tasks(uploads.database, uploads.settings), "worker-1", reclaim_grace_seconds=0
    )
    loop.run_once(time.monotonic())

    # Then it ends with the rows that it has, and nobody reads it
    batch = views.get_batch(uploads.database, opened.id)
    assert (batch.status, batch.counts.expired) == (BatchStatus.EXPIRED, rows_read)
    assert_consistent(uploads.database, opened.id)
    assert intake.take_in_waiting(uploads.intake) == 0


def test_a_batch_that_ends_its_readers_fails_after_a_while(uploads: Uploads) -> None:
    opened = uploads.open(uploads.upload(lines(2)))
    failpoints.arm("before_intake:raise")
    for _ in range(takeover.MAX_STARTS):
        with pytest.raises(Killed):
            uploads.intake.take_in(opened.id)
        silence(uploads.database)
    uploads.intake.take_in(opened.id)
    failpoints.arm("")
    batch = views.get_batch(uploads.database, opened.id)
    assert (batch.status, batch.error_code) == (BatchStatus.FAILED, "intake_crashed")


@pytest.mark.parametrize("read_request", [ReadRequest(), FAIL_ROW])
def test_an_outage_of_the_file_store_counts_as_no_crash(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, read_request: ReadRequest
) -> None:
    # Given a batch with some rows, whose reader was killed long ago
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    opened = uploads.open(uploads.upload(lines(5)), read_request)
    failpoints.arm("after_ingest_chunk:raise")
    with pytest.raises(Killed):
        uploads.intake.take_in(opened.id)
    failpoints.arm("")
    silence(uploads.database)
    before = get_batch(uploads.database, opened.id)

    # When its store can't be reached for a long time
    def refuse(_: FileStore, location: str) -> BinaryIO:
        raise FileStoreUnavailable(location)

    with monkeypatch.context() as outage:
        outage.setattr(FileStore, "open", refuse)
        for _ in range(takeover.MAX_STARTS + 2):
            assert uploads.intake.take_in(opened.id) is Outcome.POSTPONED

    # Then only the killed reader counts, and the next one goes on
    after = get_batch(uploads.database, opened.id)
    assert after.holder_id is None
    assert after.read_request == before.read_request | {"postponements": takeover.MAX_STARTS + 2}
    assert uploads.intake.take_in(opened.id) is Outcome.ACCEPTED
    assert views.get_batch(uploads.database, opened.id).counts.total == 5
    assert_consistent(uploads.database, opened.id)


def test_an_outage_after_some_rows_lets_others_go_on(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that is lost after the first rows of a streamed batch
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    opened = uploads.open(uploads.upload(lines(5)), FAIL_ROW)

    def lose(point: str) -> None:
        if point == "after_ingest_chunk":
            raise FileStoreUnavailable(point)

    with monkeypatch.context() as outage:
        outage.setattr(job_writer, "failpoint", lose)
        assert uploads.intake.take_in(opened.id) is Outcome.POSTPONED

    # Then nobody holds it, and another reader goes on
    row = get_batch(uploads.database, opened.id)
    assert (row.status, row.holder_id) == ("in_progress", None)
    assert uploads.intake.take_in(opened.id) is Outcome.ACCEPTED
    assert_consistent(uploads.database, opened.id)


@pytest.mark.parametrize("read_request", [ReadRequest(), FAIL_ROW], ids=["whole", "streamed"])
def test_workers_are_woken_as_its_process_wakes_them(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch, read_request: ReadRequest
) -> None:
    monkeypatch.setattr(submit, "notify_workers", lambda *_: pytest.fail("its Redis was asked all the same"))
    woken: list[str] = []
    reader = replace(uploads.intake, notify=lambda pipeline, _slices: woken.append(pipeline))
    opened = uploads.open(uploads.upload(lines(5)), read_request)

    assert reader.take_in(opened.id) is Outcome.ACCEPTED

    assert set(woken) == {PIPELINE}


def test_the_small_file_is_read_before_the_large_one(uploads: Uploads) -> None:
    large, small = uploads.open(uploads.upload(lines(50))), uploads.open(uploads.upload(lines(1)))
    assert [batch.id for batch in uploads.intake.waiting_batches()] == [small.id, large.id]
    assert intake.take_in_waiting(uploads.intake, max_bytes=200) == 1
    assert [batch.id for batch in uploads.intake.waiting_batches()] == [large.id]


def test_the_next_file_is_of_a_tenant_that_none_is_read_of(uploads: Uploads) -> None:
    # Given a tenant with many small files, one of which is being read
    crowd = [uploads.open(uploads.upload(lines(1), tenant="crowd"), tenant="crowd") for _ in range(3)]
    uploads.open(uploads.upload(lines(1), tenant="crowd"), tenant="crowd", here=True)
    others = [uploads.open(uploads.upload(lines(9), tenant="other"), tenant="other") for _ in range(2)]

    # Then the other tenant's come first, though they are larger
    ids = [batch.id for batch in uploads.intake.waiting_batches()]
    assert ids == [batch.id for batch in [*others, *crowd]]


def test_tenants_have_their_files_read_in_turn(uploads: Uploads) -> None:
    crowd = [uploads.open(uploads.upload(lines(1), tenant="crowd"), tenant="crowd") for _ in range(3)]
    other = uploads.open(uploads.upload(lines(9), tenant="other"), tenant="other")

    ids = [batch.id for batch in uploads.intake.waiting_batches()]
    assert ids == [batch.id for batch in [crowd[0], other, *crowd[1:]]]


class TestPostponement:
    @pytest.fixture
    def opened(self, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> OpenedBatch:
        """A batch whose file can't be reached."""

        def refuse(*_: object) -> None:
            raise FileStoreUnavailable("the store does not answer")

        monkeypatch.setattr(uploads.intake.store, "open", refuse)
        return uploads.open(uploads.upload(lines(2)))

    def test_a_batch_is_tried_again_later(
        self, uploads: Uploads, opened: OpenedBatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert uploads.intake.take_in(opened.id) is Outcome.POSTPONED
        assert not uploads.intake.waiting_batches(), "it keeps no process busy meanwhile"

        monkeypatch.undo()
        execute(uploads.database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01 00:00:00+00:00'")
        assert intake.take_in_waiting(uploads.intake) == 1
        assert_consistent(uploads.database, opened.id)

    def test_it_fails_after_a_day(self, uploads: Uploads, opened: OpenedBatch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(takeover, "MAX_POSTPONEMENTS", 30)  # more than the starts that a batch may have
        for _ in range(31):
            assert uploads.intake.take_in(opened.id) is Outcome.POSTPONED

        batch = views.get_batch(uploads.database, opened.id)
        assert (batch.status, batch.error_code) == (BatchStatus.FAILED, "file_store_unavailable")
        assert uploads.intake.take_in(opened.id) is Outcome.LOST


def test_a_file_without_bytes_fails_the_batch(uploads: Uploads) -> None:
    opened = uploads.open(uploads.upload(lines(2)))
    execute(uploads.database, "UPDATE files SET location = NULL")

    assert intake.take_in_waiting(uploads.intake) == 1
    assert views.get_batch(uploads.database, opened.id).error_code == "missing_source"


class TestOpening:
    def test_the_same_request_under_a_key_is_one_batch(self, uploads: Uploads) -> None:
        first = uploads.open(uploads.upload(lines(2)), idempotency_key="k")
        again = uploads.open(uploads.upload(lines(2)), idempotency_key="k")
        assert (again.id, again.existed) == (first.id, True)

    @pytest.mark.parametrize("read_request", [ReadRequest(), FAIL_ROW])
    def test_another_request_under_the_key_is_a_conflict(self, uploads: Uploads, read_request: ReadRequest) -> None:
        uploads.open(uploads.upload(lines(2)), idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            uploads.open(uploads.upload(lines(3 - read_request.keep_invalid)), read_request, idempotency_key="k")

    def test_tenants_have_keys_of_their_own(self, uploads: Uploads) -> None:
        first = uploads.open(uploads.upload(lines(2)), idempotency_key="k", tenant="a")
        second = uploads.open(uploads.upload(lines(2)), idempotency_key="k", tenant="b")
        assert first.id != second.id

    @pytest.mark.parametrize(
        "read_request",
        [
            ReadRequest(file_format="xlsx"),
            ReadRequest(on_invalid="perhaps"),
            ReadRequest(max_failures="many"),
            ReadRequest(bind={"a": 1}),
            ReadRequest(input_columns={"nothing": "a"}),
            ReadRequest(sql="orders"),
            ReadRequest(labels=("a",)),
        ],
    )
    def test_what_is_wrong_without_reading_is_refused_at_once(
        self, uploads: Uploads, read_request: ReadRequest
    ) -> None:
        file = uploads.upload(lines(1))
        with pytest.raises(UsageError):
            uploads.open(file, read_request)
        assert not uploads.intake.waiting_batches()

    def test_results_of_another_tenant_do_not_exist(self, uploads: Uploads) -> None:
        other = uploads.open(uploads.upload(lines(1)), tenant="a")
        with pytest.raises(NotFound):
            uploads.open(None, ReadRequest(from_batch=other.id), tenant="b")

    def test_a_batch_that_is_read_here_is_begun_by_nobody_else(self, uploads: Uploads) -> None:
        opened = uploads.open(uploads.upload(lines(2)), here=True)
        assert not uploads.intake.waiting_batches()
        assert uploads.intake.take_in(opened.id, opened.submission) is Outcome.ACCEPTED


def test_a_query_is_read_from_its_start_again(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a query's batch whose reader was killed after its first chunk
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    source = uploads.settings.home_path / "orders.db"
    source.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as orders, orders:
        orders.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, text TEXT)")
        orders.executemany("INSERT INTO orders (text) VALUES (?)", [("good",)] * 5)
    sources = {"orders": {"url": f"sqlite:///{source}", "query": "SELECT id, text FROM orders"}}
    settings = uploads.settings.model_copy(update={"sources": sources})
    reader = Intake(uploads.database, settings, uploads.catalogue)
    uploads.settings = settings
    opened = uploads.open(None, ReadRequest(sql="orders", on_invalid="fail-row"))
    failpoints.arm("after_ingest_chunk:raise@1")
    with pytest.raises(Killed):
        reader.take_in(opened.id)
    failpoints.arm("")

    # When the table has changed meanwhile
    with closing(sqlite3.connect(source)) as orders, orders:
        orders.execute("DELETE FROM orders WHERE id = 1")
    silence(uploads.database)
    assert intake.take_in_waiting(reader) == 1

    # Then the batch has what the table has now
    with uploads.database.read() as connection:
        ids = connection.exec_driver_sql("SELECT custom_id FROM jobs ORDER BY position").scalars().all()
    assert ids == ["2", "3", "4", "5"]
    assert_consistent(uploads.database, opened.id)


def test_a_store_behind_a_url_is_read_too(database: Database, tmp_path: Path) -> None:
    uploads = Uploads(database, Settings.load(file_store=f"memory://{tmp_path}"))
    opened = uploads.open(uploads.upload(lines(3)))

    assert uploads.intake.take_in(opened.id) is Outcome.ACCEPTED
    assert views.get_batch(database, opened.id).counts.total == 3


class TestMaintenance:
    def test_a_batch_that_waits_for_its_reader_is_neither_deleted_nor_failed(self, uploads: Uploads) -> None:
        # Given batches whose readers were killed: one validating, one streamed
        opened = [uploads.open(uploads.upload(lines(3)), request) for request in (ReadRequest(), FAIL_ROW)]
        failpoints.arm("after_ingest_chunk:raise")
        for batch in opened:
            with pytest.raises(Killed):
                uploads.intake.take_in(batch.id)
        failpoints.arm("")
        execute(uploads.database, "UPDATE batches SET holder_heartbeat_at = '2020-01-01 00:00:00+00:00'")

        assert batch_endings.end_abandoned_batches(uploads.database, 1e10) == ""
        assert intake.take_in_waiting(uploads.intake) == 2

    def test_a_batch_that_nobody_reads_fails_after_the_timeout(self, uploads: Uploads) -> None:
        opened = uploads.open(uploads.upload(lines(3)))
        execute(uploads.database, "UPDATE batches SET created_at = '2020-01-01 00:00:00+00:00'")

        assert opened.id in batch_endings.end_abandoned_batches(uploads.database, 86_400)

        batch = views.get_batch(uploads.database, opened.id)
        assert (batch.status, batch.error_code) == (BatchStatus.FAILED, "intake_abandoned")

    def test_a_worker_starts_the_process_that_reads_it(self, uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
        # Given a batch that its server had no time to read
        launcher = IntakeLauncher(uploads.database, uploads.settings)
        opened = uploads.open(uploads.upload(lines(3)))
        assert launcher.run_once() == ""
        assert not launcher.is_running(), "its server may be at it"
        execute(uploads.database, "UPDATE batches SET created_at = '2020-01-01 00:00:00+00:00'")

        # When a worker's maintenance looks
        launcher.run_once()
        wait_until(lambda: launcher.run_once() == "" and not launcher.is_running(), "the process to end")

        # Then the batch is accepted
        assert views.get_batch(uploads.database, opened.id).counts.total == 3

    def test_a_worker_starts_none_for_a_file_of_another_machine(self, uploads: Uploads, tmp_path: Path) -> None:
        # Given two workers elsewhere, one of which has a file store of its own
        uploads.open(uploads.upload(lines(3)))
        execute(uploads.database, "UPDATE batches SET created_at = '2020-01-01 00:00:00+00:00'")
        without_store, with_store = (uploads.other_machine(tmp_path / name) for name in ("without", "with"))
        assert with_store.store.store_id

        # When their maintenance looks
        launchers = [IntakeLauncher(each.database, each.settings) for each in (without_store, with_store)]
        for launcher in launchers:
            launcher.run_once()

        # Then they start nothing, and leave the next turn to the machine with the file
        assert not any(launcher.is_running() or launcher.can_run() for launcher in launchers)
        assert IntakeLauncher(uploads.database, uploads.settings).can_run()
        assert not (tmp_path / "without").exists()

    def test_its_pauses_grow_to_minutes_while_nothing_can_be_read(
        self, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Given a batch whose pipeline no machine has, and processes that find nothing to do
        starts: list[int] = []
        seconds = [0]

        class Idle:
            stdin = None

            def __init__(self, *_: object, **__: object) -> None:
                starts.append(seconds[-1])

            def poll(self) -> int:
                return EXIT_NOTHING_DUE

        monkeypatch.setattr("models.processes.command_launcher.subprocess.Popen", Idle)
        uploads.open(uploads.upload(lines(3)))
        execute(uploads.database, "UPDATE batches SET created_at = '2020-01-01 00:00:00+00:00'")
        launcher = IntakeLauncher(uploads.database, uploads.settings, lambda: seconds[-1])

        # When maintenance looks for a quarter of an hour
        turns = 0
        for second in range(0, 900, 10):
            seconds.append(second)
            launcher.run_once()

            turns += launcher.can_run()

        # Then fewer and fewer processes are started, and most turns are left to others
        assert turns < len(range(0, 900, 10)) / 2
        gaps = [later - earlier for earlier, later in pairwise(starts)]
        assert gaps[0] < MAX_IDLE_SECONDS <= gaps[-1]
        assert gaps == sorted(gaps)
