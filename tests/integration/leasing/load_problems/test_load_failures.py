"""Load failures on both databases: what a seat can't load is recorded, and fails only what nobody else can serve."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from models.db import Database
from models.errors import BatchmillError, LoadFailed, MissingModel, ModelError
from models.pipelines.pipeline import Pipeline
from models.tables.batches import Batch
from models.tables.workers import LoadFailure, Worker
from tests.factories.batch_rows import (
    LEASE_SECONDS,
    MODEL,
    MODEL_VERSION,
    PIPELINE,
    REVISION,
    TASK,
    assert_consistent,
    get_batch,
    get_results,
    insert_batch,
)
from worker.leasing.load_problems import load_failures
from worker.leasing.load_problems.load_failures import (
    FAILURE_GRACE_SECONDS,
    MIN_LOAD_ATTEMPTS,
    MISSING_FILES_GRACE_SECONDS,
    LoadLocation,
)
from worker.leasing.load_problems.peer_watch import STALE_WORKER_SECONDS, PeerWatch
from worker.loading import versions

PLACE = LoadLocation("host-a#1", "host", "cpu")
PAUSE_SECONDS = 1_000.0  # longer than a busy machine needs for a test
ENTRY = Pipeline(name=PIPELINE, task=TASK, model=MODEL)
OTHER = "b" * 40
SILENT_SECONDS = PeerWatch(LEASE_SECONDS, lambda: STALE_WORKER_SECONDS).silent_seconds


def unusable(revision: str | None = REVISION) -> ModelError:
    error = ModelError("made/model has no weights for classifier.bias")
    error.revision = revision
    return error


def record(database: Database, error: BatchmillError, location: LoadLocation = PLACE, times: int = 1) -> None:
    for _ in range(times):
        load_failures.record(database, location, PIPELINE, MODEL, error, PAUSE_SECONDS)


def age(database: Database, seconds: float) -> None:
    with database.write() as connection:
        connection.execute(update(LoadFailure).values(first_failed_at=datetime.now(UTC) - timedelta(seconds=seconds)))


def fail(database: Database, error: ModelError, peers: PeerWatch | None = None) -> list[str]:
    if peers is None:
        peers = PeerWatch(LEASE_SECONDS, lambda: STALE_WORKER_SECONDS)
    return load_failures.fail_unservable_batches(database, PLACE, ENTRY, error, peers)


def add_worker(database: Database, worker_id: str = "host-b#1", *, silent_seconds: float = 1, **fields: Any) -> None:
    values = {
        "id": worker_id,
        "host": "host",
        "pid": 1,
        "device": "cpu",
        "model": MODEL,
        "state": "ready",
        "pipeline": "another",
        "served_pipelines": ["another", PIPELINE],
        "heartbeat_at": datetime.now(UTC) - timedelta(seconds=silent_seconds),
    }
    with database.write() as connection:
        connection.execute(insert(Worker).values(**values | fields))


def failures(database: Database) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(select(LoadFailure.__table__).order_by(LoadFailure.worker_name)))


class TestRecord:
    def test_counts_the_same_failure_of_a_seat_over_its_processes(self, database: Database) -> None:
        record(database, unusable())
        record(database, unusable(), LoadLocation("host-a#2", "host", "cpu"))

        [row] = failures(database)

        assert (row.worker_name, row.pipeline, row.attempts, row.revision) == ("host-a", PIPELINE, 2, REVISION)
        assert (row.error_code, row.error_message) == ("model_unusable", str(unusable()))
        assert row.next_attempt_at > row.last_failed_at >= row.first_failed_at

    def test_counts_another_failure_from_the_beginning(self, database: Database) -> None:
        record(database, unusable(), times=3)

        record(database, LoadFailed("device cuda is not on this machine"))

        [row] = failures(database)
        assert (row.error_code, row.attempts, row.revision) == ("load_failed", 1, None)

    def test_is_known_to_the_next_process_of_the_seat_alone(self, database: Database) -> None:
        record(database, unusable(), times=2)

        [(name, (tries, seconds))] = load_failures.failures_for_seat(database, "host-a#2").items()

        assert (name, tries) == (PIPELINE, 2)
        assert 0 < seconds <= PAUSE_SECONDS
        assert load_failures.failures_for_seat(database, "host-b#1") == {}

    def test_is_forgotten_by_pipeline_or_with_its_worker(self, database: Database) -> None:
        record(database, unusable())
        record(database, unusable(), LoadLocation("host-b#1", "host", "cpu"))

        with database.write() as connection:
            load_failures.clear(connection, "host-a#1", "another")
            assert len(failures(database)) == 2
            load_failures.clear(connection, "host-a#1", PIPELINE)
            load_failures.clear(connection, "host-b#1")

        assert failures(database) == []


class TestBegunBatches:
    """Batches with a revision fail of exactly this model and revision, at once."""

    def test_fail_with_the_reason(self, database: Database) -> None:
        waiting = [insert_batch(database, 4), insert_batch(database, 4)]

        assert fail(database, unusable()) == waiting

        for batch_id in waiting:
            failed = get_batch(database, batch_id)
            assert (failed.status, failed.error_code) == ("failed", "model_unusable")
            assert failed.error_message == str(unusable())
            assert_consistent(database, batch_id)

    @pytest.mark.parametrize(
        "fields",
        [
            {"pipeline": "another"},
            {"model": "made/other"},
            {"revision": OTHER},
            {"task": "ner"},
            {"status": "validating"},
            {"status": "completed"},
            {"succeeded": 1},
        ],
    )
    def test_that_are_others_do_not(self, database: Database, fields: dict[str, Any]) -> None:
        spared = insert_batch(database, 4, **fields)

        assert fail(database, unusable()) == []

        assert get_batch(database, spared).error_code is None

    def test_never_fail_of_missing_files(self, database: Database) -> None:
        insert_batch(database, 4)
        error = MissingModel("there is no model folder /models/x")
        record(database, error, times=MIN_LOAD_ATTEMPTS)
        age(database, 10 * MISSING_FILES_GRACE_SECONDS)

        assert fail(database, error) == []

    def test_never_fail_of_a_model_that_anybody_ever_loaded(self, database: Database) -> None:
        insert_batch(database, 4)
        versions.register_version(database, MODEL_VERSION)

        assert fail(database, unusable()) == []


class TestUnbegunBatches:
    """Batches without a revision fail after some tries and a while."""

    @pytest.mark.parametrize(
        ("times", "seconds"), [(MIN_LOAD_ATTEMPTS - 1, 1000.0), (MIN_LOAD_ATTEMPTS, FAILURE_GRACE_SECONDS - 5)]
    )
    def test_wait_for_a_while(self, database: Database, times: int, seconds: float) -> None:
        insert_batch(database, 4, revision=None)
        record(database, unusable(), times=times)
        age(database, seconds)

        assert fail(database, unusable()) == []

    @pytest.mark.parametrize(
        ("error", "seconds"),
        [(unusable(), FAILURE_GRACE_SECONDS), (MissingModel("there is no model folder"), MISSING_FILES_GRACE_SECONDS)],
    )
    def test_fail_then(self, database: Database, error: ModelError, seconds: float) -> None:
        batch_id = insert_batch(database, 4, revision=None)
        record(database, error, times=MIN_LOAD_ATTEMPTS)
        age(database, seconds + 5)

        assert fail(database, error) == [batch_id]

        assert [row.error_code for row in get_results(database, batch_id)] == ["model_unusable"] * 4

    def test_of_another_model_under_the_same_name_do_not(self, database: Database) -> None:
        insert_batch(database, 4, revision=None, model="made/other")
        record(database, unusable(), times=MIN_LOAD_ATTEMPTS)
        age(database, 1000)

        assert fail(database, unusable()) == []


class TestOtherWorkers:
    """A live worker that may serve the batch keeps it from failing."""

    @pytest.mark.parametrize("revision", [None, REVISION])
    @pytest.mark.parametrize(
        "worker",
        [
            {},  # has another pipeline loaded
            {"state": "loading", "pipeline": PIPELINE},
            {"state": "starting", "pipeline": PIPELINE},
            {"pipeline": PIPELINE, "revision": REVISION},
            {"silent_seconds": SILENT_SECONDS - LEASE_SECONDS},
        ],
    )
    def test_may_serve_it(self, database: Database, worker: dict[str, Any], revision: str | None) -> None:
        batch_id = insert_batch(database, 4, revision=revision)
        record(database, unusable(), times=MIN_LOAD_ATTEMPTS)
        age(database, 1000)
        add_worker(database, **worker)

        assert fail(database, unusable()) == []

        assert get_batch(database, batch_id).status == "in_progress"

    @pytest.mark.parametrize(
        "worker",
        [
            {"silent_seconds": SILENT_SECONDS + LEASE_SECONDS},
            {"served_pipelines": ["another"]},
            {"pipeline": PIPELINE, "revision": OTHER},  # it would compute with another revision
            {"worker_id": "host-a#2"},  # the same seat
        ],
    )
    def test_may_not(self, database: Database, worker: dict[str, Any]) -> None:
        batch_id = insert_batch(database, 4)
        add_worker(database, **worker)

        assert fail(database, unusable()) == [batch_id]

    def test_are_live_after_an_outage_until_they_had_time_for_a_heartbeat(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        add_worker(database, silent_seconds=10 * SILENT_SECONDS)

        assert fail(database, unusable(), PeerWatch(LEASE_SECONDS, lambda: SILENT_SECONDS - 1)) == []
        assert fail(database, unusable(), PeerWatch(LEASE_SECONDS, lambda: SILENT_SECONDS)) == [batch_id]

    def test_may_be_restarting(self, database: Database) -> None:
        batch_id = insert_batch(database, 4)
        add_worker(database)
        now = 1000.0
        peers = PeerWatch(LEASE_SECONDS, lambda: STALE_WORKER_SECONDS, lambda: now)
        assert fail(database, unusable(), peers) == []

        with database.write() as connection:
            connection.execute(delete(Worker))
        now += SILENT_SECONDS - 1
        assert fail(database, unusable(), peers) == []
        now += 1
        assert fail(database, unusable(), peers) == [batch_id]

    @pytest.mark.parametrize(
        ("theirs", "fails"),
        [(unusable(), True), (unusable(OTHER), True), (MissingModel("none"), True), (LoadFailed("no device"), False)],
    )
    def test_count_by_what_they_could_not_load(self, database: Database, theirs: BatchmillError, fails: bool) -> None:
        batch_id = insert_batch(database, 4)
        add_worker(database)
        record(database, theirs, LoadLocation("host-b#1", "host", "cpu"))

        assert fail(database, unusable()) == [batch_id] * fails


def test_a_batch_that_failed_can_be_tried_again(database: Database) -> None:
    batch_id = insert_batch(database, 4)
    assert fail(database, unusable()) == [batch_id]

    from producer.batches.actions import retry

    replayed = retry.retry_jobs(database, batch_id, retry.RetrySelection(), 4)

    assert replayed.jobs == 4
    assert get_batch(database, batch_id).status == "in_progress"
    with database.read() as connection:
        assert connection.scalar(select(Batch.error_code).where(Batch.id == batch_id)) is None
