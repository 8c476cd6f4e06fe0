"""The Python handle of a batch: retries, progress and exports give what the commands give."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

import batchmill
from batchmill import BatchHandle, Client, NotFound, UsageError, WaitTimeout
from models.db import Database
from models.dialects.columns import Document
from producer.batches import polling
from tests import fake_worker
from tests.differences_over_http import over_sql_only
from tests.factories.batch_rows import execute, insert_batch, update_batch

GOOD = {"label": "POSITIVE", "score": 0.5}
NO_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture
def batch(client: Client, database: Database) -> BatchHandle:
    """Return a completed batch with two successes and two failures."""
    batch_id = insert_batch(database, 4)
    execute(database, """UPDATE jobs SET passthrough = '{"region": "EU"}' WHERE position < 2""")
    execute(database, """UPDATE jobs SET passthrough = '{"country": "DE", "region": "EU"}' WHERE position = 3""")
    outputs: list[tuple[int, Any]] = [(2, GOOD), (0, "model_error"), (1, GOOD), (3, "forward_timeout")]
    fake_worker.write_results(database, batch_id, outputs)
    fake_worker.end_batch(database, batch_id)
    return client.batch(batch_id)


class TestRetry:
    def test_failed_jobs_run_again(self, batch: BatchHandle) -> None:
        assert batch.retry() is batch

        assert (batch.status, batch.has_ended) == ("in_progress", False)
        assert batch.request_counts.as_dict() == {
            "total": 4,
            "succeeded": 2,
            "failed": 0,
            "cancelled": 0,
            "expired": 0,
            "unanswered": 2,
        }
        assert "unanswered=2" in repr(batch.request_counts)
        assert "the batch is safe in SQL" in str(batch.warning)

    @pytest.mark.parametrize("codes", ["forward_timeout", ["forward_timeout"], ("forward_timeout",)])
    def test_codes_choose(self, batch: BatchHandle, codes: str | list[str]) -> None:
        assert batch.retry(codes=codes, deadline="6h").request_counts.unanswered == 1
        assert batch.view.timestamps["expires_at"]

    @pytest.mark.parametrize("status", ["succeeded", ["failed", "succeeded"], "completed", [], "cancelled"])
    def test_other_jobs_are_refused(self, batch: BatchHandle, status: str | list[str]) -> None:
        with pytest.raises(UsageError, match=r"status|no cancelled jobs"):
            batch.retry(status=status)

        assert batch.refresh().status == "completed"


class TestRepair:
    def test_corrected_inputs_take_the_places_of_failed_jobs(self, batch: BatchHandle, database: Database) -> None:
        execute(database, "UPDATE jobs SET custom_id = 'd' WHERE position = 3")
        rows = [row.as_dict() for row in batch.errors("model_error")]
        rows[0]["input"]["text"] = "corrected"

        batch.repair([*rows, {"id": "d", "text": "too"}], deadline="6h")

        assert (batch.status, batch.request_counts.unanswered) == ("in_progress", 2)
        assert "the batch is safe in SQL" in str(batch.warning)
        with database.read() as connection:
            inputs = text("SELECT input FROM jobs ORDER BY position").columns(input=Document)
            texts = [document["text"] for document in connection.scalars(inputs)]
        assert texts == ["corrected", "text 1", "text 2", "too"]

    @pytest.mark.parametrize(
        "inputs", [[{"position": 1, "text": "a"}], [{"text": "a"}], ["a"], [{"position": 0, "text": ""}], "a", None]
    )
    def test_what_can_repair_nothing_is_refused(self, batch: BatchHandle, inputs: Any) -> None:
        with pytest.raises(UsageError):
            batch.repair(inputs)

        assert batch.refresh().status == "completed"


@pytest.mark.parametrize("method", ["retry", "repair"])
def test_a_deadline_that_has_passed_is_refused(batch: BatchHandle, method: str) -> None:
    arguments = [[{"position": 0, "text": "corrected"}]] if method == "repair" else []

    with pytest.raises(UsageError, match="has passed"):
        getattr(batch, method)(*arguments, deadline="2020-01-01")

    assert batch.refresh().status == "completed"


class TestWait:
    def test_progress_is_reported_when_it_changes(
        self, client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch_id = insert_batch(database, 2)
        steps = iter(
            [
                lambda: None,
                lambda: fake_worker.write_results(database, batch_id, [(0, GOOD)]),
                lambda: None,
                lambda: fake_worker.write_results(database, batch_id, [(1, "model_error")]),
                lambda: fake_worker.end_batch(database, batch_id),
            ]
        )
        monkeypatch.setattr(polling.time, "sleep", lambda _: next(steps)())
        reports: list[tuple[str, int]] = []

        client.batch(batch_id).wait(on_progress=lambda it: reports.append((it.status, it.request_counts.ended)))

        assert reports == [("in_progress", 0), ("in_progress", 1), ("in_progress", 2), ("completed", 2)]

    def test_an_error_of_the_callback_comes_through(self, batch: BatchHandle) -> None:
        with pytest.raises(ZeroDivisionError):
            batch.wait(on_progress=lambda _: 1 / 0)

    def test_a_timeout_is_its_own_error(self, client: Client, database: Database) -> None:
        with pytest.raises(WaitTimeout):
            client.batch(insert_batch(database, 1)).wait(timeout=0)

    def test_a_batch_that_is_being_deleted_is_gone(self, batch: BatchHandle, database: Database) -> None:
        update_batch(database, batch.id, status="deleting")

        with pytest.raises(NotFound, match="is being deleted"):
            batch.wait()


class TestExports:
    @pytest.mark.parametrize("file_format", ["jsonl", "csv"])
    @pytest.mark.parametrize("status", [None, "failed", ["failed", "succeeded"], "expired"])
    def test_files_equal_those_of_the_command(
        self, batch: BatchHandle, tmp_path: Path, file_format: str, status: str | list[str] | None
    ) -> None:
        command_file, file = tmp_path / f"command.{file_format}", tmp_path / "python.out"
        names = [status] if isinstance(status, str) else status or []
        options = [option for name in names for option in ("--status", name)]
        result = CliRunner().invoke(batchmill.cli, ["results", batch.id, "-o", str(command_file), *options])

        count = getattr(batch, f"to_{file_format}")(file, status=status)

        assert file.read_bytes() == command_file.read_bytes()
        assert f"wrote {count} results" in result.stderr
        assert count == {"None": 4, "failed": 2, "expired": 0}.get(str(status), 4)

    def test_rows_may_have_kept_different_columns(self, batch: BatchHandle, tmp_path: Path) -> None:
        batch.to_csv(tmp_path / "out.csv")

        with (tmp_path / "out.csv").open(newline="") as file:
            rows = [(row["region"], row["country"]) for row in csv.DictReader(file)]
        assert rows == [("EU", ""), ("EU", ""), ("", ""), ("EU", "DE")]

    def test_a_parquet_file(self, batch: BatchHandle, tmp_path: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")

        assert batch.to_parquet(tmp_path / "out", after=2) == 2

        assert parquet.read_table(tmp_path / "out")["position"].to_pylist() == [1, 3]

    @over_sql_only("no_tables")
    def test_a_table(self, batch: BatchHandle, database: Database) -> None:
        assert batch.to_sql("labels", status="succeeded") == 2

        with database.read() as connection:
            assert connection.scalars(text("SELECT position FROM labels ORDER BY position")).all() == [1, 2]

    def test_rows_have_their_tokens(self, batch: BatchHandle, database: Database) -> None:
        tokens = "UPDATE results SET input_tokens = 7, output_tokens = 3, finish_reason = 'length' WHERE position = 2"
        execute(database, tokens)

        rows = {row.position: (row.input_tokens, row.output_tokens, row.finish_reason) for row in batch.results()}

        assert (rows[2], rows[1]) == ((7, 3, "length"), (None, None, None))

    def test_statuses_filter_results_and_their_followers(self, batch: BatchHandle) -> None:
        assert [row.position for row in batch.results(status="failed")] == [0, 3]
        assert [row.position for row in batch.results(2, status=["succeeded"])] == [1]
        assert [row.position for row in batch.follow(status="failed")] == [0, 3]
        with pytest.raises(UsageError, match="succeeded, failed, cancelled, expired"):
            batch.results(status="completed")
        with pytest.raises(UsageError, match="succeeded, failed, cancelled, expired"):
            batch.results(status=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [[], ["--follow"], ["--json"]])
def test_the_command_filters_by_status(batch: BatchHandle, options: list[str]) -> None:
    result = CliRunner().invoke(batchmill.cli, ["results", batch.id, "--status", "failed", *options])

    assert [json.loads(line)["error_code"] for line in result.stdout.splitlines()] == ["model_error", "forward_timeout"]


def test_a_cancelled_batch_may_be_cancelled_again(client: Client, database: Database, batch: BatchHandle) -> None:
    open_batch = client.batch(insert_batch(database, 2))

    assert open_batch.cancel().cancel().status == "cancelled"
    assert [row.status for row in open_batch.results(status="cancelled")] == ["cancelled"] * 2
    with pytest.raises(UsageError, match="completed already"):
        batch.cancel()
