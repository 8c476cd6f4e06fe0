"""A batch without jobs, such as a night without news makes: it has ended at once, and everything takes it as it is."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import inspect

import batchmill
from models.db import Database
from models.pipelines.builtin import BUILTIN_PIPELINES
from models.states import BatchStatus
from producer.batches import views
from producer.health import audit
from producer.readers.rows import Source
from producer.submission import open_submission, submit
from producer.submission.identity.batch_ids import new_batch_id
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest

SAMPLE = next(pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == "sample-sentiment-analysis")


@pytest.fixture
def database(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)
    return database


@pytest.fixture
def batch_id(database: Database) -> str:
    request, batch_id = SubmitRequest.create(SAMPLE, max_failures="2%", deadline="1h"), new_batch_id()
    with database.write() as connection:
        open_submission.insert_batch(connection, database.sql, request, OpenSubmission(batch_id, ""))
    with database.write() as connection:
        entry = open_submission.take_over_from_start(connection, database.sql, batch_id)
    assert entry is not None
    submission = submit.submit_into(database, 4, request, entry, Source("a.jsonl", "line", iter(())))
    assert (submission.jobs, submission.failed, submission.slices) == (0, 0, 0)
    return batch_id


def invoke(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(batchmill.cli, list(arguments))
    assert result.exit_code == exit_code, result.output
    return result


def test_it_has_ended_as_soon_as_it_is_accepted(database: Database, batch_id: str) -> None:
    batch = views.get_batch(database, batch_id)
    assert batch.status is BatchStatus.COMPLETED
    assert batch.counts.total == batch.counts.unanswered == 0
    assert batch.timestamps["completed_at"] is not None
    assert audit.audit_batch(database, batch_id, 30).is_sound


def test_commands_take_it_as_it_is(batch_id: str) -> None:
    assert json.loads(invoke("show", batch_id, "--json").stdout)["request_counts"]["total"] == 0
    assert invoke("wait", batch_id, "--timeout", "5").stdout == ""
    for command in (["show"], ["watch"], ["audit"], ["attempts"], ["errors"], ["results"], ["results", "--follow"]):
        invoke(command[0], batch_id, *command[1:])
    assert batch_id in invoke("ls").stdout
    assert invoke("results", batch_id).stdout == ""


def test_its_export_is_a_file_without_rows(batch_id: str, tmp_path: Path) -> None:
    for name in ("all.jsonl", "all.csv", "all.parquet"):
        invoke("results", batch_id, "-o", str(tmp_path / name))
    assert (tmp_path / "all.jsonl").read_bytes() == b""
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1
    assert pyarrow.parquet.read_table(tmp_path / "all.parquet").num_rows == 0


def test_its_table_has_no_rows(database: Database, batch_id: str) -> None:
    invoke("results", batch_id, "--to-sql", "mine")
    with database.read() as connection:
        assert "mine" in inspect(connection).get_table_names()
        assert connection.exec_driver_sql("SELECT count(*) FROM mine").scalar() == 0


def test_there_is_nothing_to_retry_or_cancel_and_it_can_be_deleted(database: Database, batch_id: str) -> None:
    for command in ("retry", "cancel"):
        CliRunner().invoke(batchmill.cli, [command, batch_id])
        assert views.get_batch(database, batch_id).status is BatchStatus.COMPLETED
    invoke("delete", batch_id)
    assert views.list_batches(database, 5) == []
