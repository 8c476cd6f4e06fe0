"""Retention on both databases: what ended long ago goes, whole and in chunks; what is open is never touched."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from models.db import Database
from models.errors import NotFound, UsageError
from models.lifecycle import retention
from models.states import BatchStatus
from producer.batches import views
from producer.batches.actions import delete, retry
from producer.batches.actions.retry import RetrySelection
from producer.health import audit as auditor
from producer.results import pages
from tests import fake_worker
from tests.factories.batch_rows import LEASE_SECONDS, claimant_for, execute, get_batch, insert_batch, update_batch
from worker.leasing.claiming import claims
from worker.maintenance import batch_endings, tasks

GOOD = {"label": "POSITIVE", "score": 0.5}
TABLES = ("jobs", "results", "superseded_results", "slices", "attempts")
DAYS = 86_400.0


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


def ended(database: Database, jobs: int = 5, days: float = 0.0, status: BatchStatus = BatchStatus.COMPLETED) -> str:
    """A batch that ended so long ago, by the database's clock."""
    batch_id = insert_batch(database, jobs)
    fake_worker.write_results(database, batch_id, [(index, GOOD if index else "empty_text") for index in range(jobs)])
    fake_worker.end_batch(database, batch_id, status)
    time = database.sql.now_plus_seconds
    execute(
        database, f"UPDATE batches SET {status.value}_at = {time} WHERE id = :id", id=batch_id, seconds=-days * DAYS
    )
    return batch_id


def remaining_rows(database: Database, batch_id: str) -> dict[str, int]:
    with database.read() as connection:
        counts = {
            table: connection.scalar(text(f"SELECT count(*) FROM {table} WHERE batch_id = :id"), {"id": batch_id})
            for table in TABLES
        }
    return {table: count for table, count in counts.items() if count}


def ids(database: Database) -> set[str]:
    return {view.id for view in views.list_batches(database, 100)}


class TestDeleting:
    @pytest.mark.parametrize("chunk", [1, 2, 5, 5_000])
    def test_nothing_is_left_of_it_and_all_of_the_others(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        monkeypatch.setattr(retention, "CHUNK_JOBS", chunk)
        batch_id, other = ended(database), ended(database)
        retry.retry_jobs(database, batch_id, RetrySelection(), 4)
        claims.claim(database, claimant_for(), 1, 4)
        fake_worker.write_results(database, batch_id, [(0, GOOD)])
        fake_worker.end_batch(database, batch_id)

        delete.delete(database, batch_id)

        assert remaining_rows(database, batch_id) == {}
        assert ids(database) == {other}
        assert remaining_rows(database, other) == {"jobs": 5, "results": 5, "slices": 2}

    def test_an_open_one_is_refused(self, database: Database) -> None:
        for status in (BatchStatus.IN_PROGRESS, BatchStatus.VALIDATING, BatchStatus.CANCELLING):
            batch_id = insert_batch(database, 3, status=status.value)

            with pytest.raises(UsageError, match=f"is {status.value}; .* --cancel"):
                delete.delete(database, batch_id)

            assert remaining_rows(database, batch_id)["jobs"] == 3

    def test_unless_it_is_to_be_cancelled(self, database: Database) -> None:
        batch_id = insert_batch(database, 3)

        delete.delete(database, batch_id, cancel=True)

        assert ids(database) == set()
        assert remaining_rows(database, batch_id) == {}

    def test_what_was_broken_off_is_gone_on_with(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "CHUNK_JOBS", 2)
        batch_id = ended(database)
        update_batch(database, batch_id, idempotency_key="nightly")
        assert retention.begin_deletion(database, batch_id)
        assert get_batch(database, batch_id).idempotency_key is None
        assert not retention.finish_deletion(database, batch_id, max_chunks=1)

        assert remaining_rows(database, batch_id)["results"] == 3
        assert auditor.audit_batch(database, batch_id, LEASE_SECONDS).is_sound, "half of it is not a loss"
        with pytest.raises(UsageError):
            retry.retry_jobs(database, batch_id, RetrySelection(), 4)
        delete.delete(database, batch_id)

        assert ids(database) == set()

    def test_an_export_does_not_take_half_of_it_for_the_whole(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pages, "PAGE_ROWS", 2)
        batch_id = ended(database)
        rows = pages.iter_by_position(database, batch_id)
        next(rows)
        retention.begin_deletion(database, batch_id)
        retention.finish_deletion(database, batch_id, max_chunks=1)

        with pytest.raises(NotFound, match="being deleted"):
            list(rows)
        with pytest.raises(NotFound, match="being deleted"):
            list(pages.iter_failed(database, batch_id))

    def test_there_must_be_one(self, database: Database) -> None:
        assert run("delete", "batch_nope").exit_code == 4
        assert not retention.begin_deletion(database, "batch_nope")
        with pytest.raises(NotFound):
            delete.delete(database, "batch_nope")

    def test_the_command(self, database: Database) -> None:
        batch_id, running = ended(database), insert_batch(database, 2)

        assert run("delete", batch_id).stderr == f"{batch_id} is deleted\n"
        assert run("delete", running).exit_code == 2
        document = json.loads(run("delete", running, "--cancel", "--json").stdout)
        assert document == {"id": running, "object": "batch.deleted", "deleted": True}


class TestPruning:
    def test_only_what_ended_so_long_ago(self, database: Database) -> None:
        old = [
            ended(database, days=31, status=status)
            for status in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
        ]
        young, running = ended(database, days=29), insert_batch(database, 3)

        result = run("prune", "--older-than", "30d")

        assert result.stderr == "4 batches with 20 jobs deleted\n"
        assert all(batch_id in result.stdout for batch_id in old)
        assert ids(database) == {young, running}
        assert [remaining_rows(database, batch_id) for batch_id in old] == [{}] * 4
        assert remaining_rows(database, young) == {"jobs": 5, "results": 5, "slices": 2}

    def test_one_that_a_replay_opened_again_stays(self, database: Database) -> None:
        batch_id = ended(database, days=31)
        retry.retry_jobs(database, batch_id, RetrySelection(), 4)

        assert run("prune", "--older-than", "0s").stderr == "0 batches with 0 jobs deleted\n"

        assert ids(database) == {batch_id}

    def test_one_that_is_opened_while_it_is_looked_at_stays(self, database: Database) -> None:
        batch_id = ended(database, days=31)
        [found] = retention.old_batches(database, 30 * DAYS)
        retry.retry_jobs(database, batch_id, RetrySelection(), 4)

        assert not retention.begin_deletion(database, found.id)

        assert get_batch(database, batch_id).status == "in_progress"

    def test_a_dry_run_only_tells(self, database: Database) -> None:
        batch_id = ended(database, days=31)

        result = run("prune", "--older-than", "30d", "--dry-run", "--json")

        document = json.loads(result.stdout)
        assert [each["id"] for each in document["data"]] == [batch_id]
        assert document["deleted"] is False
        assert "1 batch with 5 jobs would be deleted" in run("prune", "--older-than", "30d", "--dry-run").stderr
        assert remaining_rows(database, batch_id) == {"jobs": 5, "results": 5, "slices": 2}

    def test_pages_make_up_the_whole(self, database: Database) -> None:
        batch_ids = {ended(database, jobs=1, days=2) for _ in range(5)}

        for max_rows in (1, 2, 5, 6):
            assert {each.id for each in retention.old_batches(database, DAYS, max_rows)} == batch_ids

    @pytest.mark.parametrize("arguments", [[], ["--older-than", "soon"], ["--older-than", "9999d"]])
    def test_what_is_old_must_be_said(self, arguments: list[str]) -> None:
        result = run("prune", *arguments)

        assert result.exit_code == 2
        assert "30d" in result.stderr

    def test_the_setting_says_it_too(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        ended(database, days=31)
        monkeypatch.setenv("BATCHMILL_RETENTION_DAYS", "30")

        assert run("prune").stderr.startswith("1 batch with 5 jobs deleted")


class TestDuty:
    def test_deletes_what_is_old_where_that_is_set(self, database: Database) -> None:
        old, young = ended(database, days=31), ended(database)

        assert batch_endings.delete_old_batches(database, None) == ""
        assert batch_endings.delete_old_batches(database, 30.0) == f"deleted: {old}"

        assert ids(database) == {young}
        assert batch_endings.delete_old_batches(database, 30.0) == ""

    def test_goes_on_with_what_somebody_began(self, database: Database) -> None:
        batch_id = ended(database)
        retention.begin_deletion(database, batch_id)

        assert batch_endings.delete_old_batches(database, None) == f"deleted: {batch_id}"

    def test_takes_only_so_long(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_endings, "MAX_DELETE_SECONDS", 0.0)
        old = ended(database, days=31)

        assert batch_endings.delete_old_batches(database, 30.0) == ""

        update_batch(database, old, name="still there")
        assert get_batch(database, old).status == "deleting"

    def test_is_one_of_the_standard_ones(self, database: Database) -> None:
        from models.settings import Settings

        assert "retention" in {task.name for task in tasks.default_tasks(database, Settings())}


def test_what_is_being_deleted_is_shown_as_that(database: Database) -> None:
    batch_id = ended(database)
    retention.begin_deletion(database, batch_id)

    shown: Any = run("show", batch_id)

    assert "deleting" in shown.stdout
