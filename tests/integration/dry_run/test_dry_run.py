"""A dry run on both databases: it tells what would be, and writes nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from models.db import Database
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.dry_run import forecast
from tests import fake_worker
from tests.factories.batch_rows import execute, insert_batch, set_claim_times

SAMPLE = "sample-sentiment-analysis"
GOOD = '{"id": 1, "text": "good"}\n{"id": 2, "text": "bad"}\n'
BAD = GOOD + '{"id": 2, "text": "again"}\nnonsense\n'


def submit_dry(tmp_path: Path, content: str, *more: str) -> Result:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    return CliRunner().invoke(batchmill.cli, ["submit", str(path), "-p", SAMPLE, "--dry-run", *more])


def test_it_tells_what_would_be_and_writes_nothing(database: Database, tmp_path: Path) -> None:
    result = submit_dry(tmp_path, GOOD, "--idempotency-key", "night")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[:4] == [
        "rows          2",
        "jobs          2 in 1 slice",
        "invalid rows  none",
        "takes         not known: no batch with this pipeline, model and parameters has been answered yet",
    ]
    assert result.stderr == "a dry run: nothing was submitted\n"
    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM batches")) == 0


def test_bad_rows_would_refuse_it(database: Database, tmp_path: Path) -> None:
    result = submit_dry(tmp_path, BAD)

    assert result.exit_code == 2
    assert "invalid rows  2 (1 duplicate_id, 1 invalid_row):" in result.stdout
    assert "line 3: has custom_id '2', which line 2 has already" in result.stdout
    assert "and this would be refused" in result.stderr
    assert submit_dry(tmp_path, BAD, "--on-invalid", "fail-row").exit_code == 0


NO_HEADER = "17,good as it is,4.5\n23,bad,1.0\n"
DOUBT = "the first line is taken as the names of the columns: '17', 'good as it is', '4.5'"


class TestTableWithoutHeader:
    def submit(self, tmp_path: Path, *more: str, content: str = NO_HEADER) -> Result:
        path = tmp_path / "a.csv"
        path.write_text(content)
        return CliRunner().invoke(batchmill.cli, ["submit", str(path), "-p", SAMPLE, *more])

    def test_a_dry_run_says_what_was_assumed(self, database: Database, tmp_path: Path) -> None:
        result = self.submit(tmp_path, "--dry-run", "--input", "text=good as it is", "--no-id")

        assert result.exit_code == 0, result.stderr
        assert "rows          1" in result.stdout
        assert f"{DOUBT}; if it is data, name the columns: --column-names NAME,NAME" in result.stdout

    def test_names_that_are_given_show_in_the_report(self, database: Database, tmp_path: Path) -> None:
        names = ("--column-names", "id,text,stars", "--dry-run")

        report = self.submit(tmp_path, *names).stdout
        document = json.loads(self.submit(tmp_path, *names, "--json").stdout)

        assert "rows          2" in report
        assert "columns       id, text, stars, as named; line 1 is a row" in report
        assert (document["column_names"], document["doubts"]) == (["id", "text", "stars"], [])

    def test_a_submission_warns(self, database: Database, tmp_path: Path) -> None:
        result = self.submit(tmp_path, "--input", "text=good as it is", "--no-id")

        assert result.exit_code == 0, result.stderr
        assert DOUBT in result.stderr

    def test_a_missing_column_is_explained(self, database: Database, tmp_path: Path) -> None:
        result = self.submit(tmp_path)

        assert result.exit_code == 2
        assert "text" in result.stderr
        assert DOUBT in result.stderr

    def test_an_ordinary_file_is_no_doubt(self, database: Database, tmp_path: Path) -> None:
        document = json.loads(self.submit(tmp_path, "--dry-run", "--json", content="id,text\n1,good\n").stdout)

        assert (document["rows"], document["doubts"]) == (1, [])


def test_json(database: Database, tmp_path: Path) -> None:
    document = json.loads(submit_dry(tmp_path, BAD, "--json").stdout)

    assert (document["rows"], document["jobs"], document["invalid_rows"], document["duplicate_ids"]) == (4, 2, 2, 1)
    assert sum(row["inputs"] for row in document["lengths"]["histogram"]) == 2


def test_the_forecast_compares_with_the_last_batches(database: Database, tmp_path: Path) -> None:
    model = {"pipeline": SAMPLE, "model": "bundled:sentiment-analysis", "status": "completed"}
    batch_id = insert_batch(database, 8, **model, succeeded=8)
    other_model = insert_batch(database, 8, **(model | {"model": "another"}), succeeded=8)
    set_claim_times(database, batch_id, 0, 2)
    set_claim_times(database, other_model, 0, 2000)

    assert "takes         about 1.2 s at" in submit_dry(tmp_path, GOOD).stdout
    document = json.loads(submit_dry(tmp_path, GOOD, "--json").stdout)
    assert 1 < document["jobs_per_second"] < 3
    assert document["seconds_is_upper_bound"] is False


def test_invalid_rows_do_not_make_a_past_batch_faster(database: Database) -> None:
    pipeline = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}[SAMPLE]
    columns = {"pipeline": pipeline.name, "task": pipeline.task, "model": pipeline.model, "status": "completed"}
    batch_id = insert_batch(database, 8, **columns)
    fake_worker.write_results(database, batch_id, [(0, {}), *((place, "empty_text") for place in range(1, 8))])
    execute(database, "UPDATE jobs SET invalid = (position > 0)")
    set_claim_times(database, batch_id, 0, 2)

    [past_batch] = forecast.recent_batches(database, pipeline, {})
    assert forecast.recent_batches(database, pipeline, {}, "default") == [past_batch]
    assert forecast.recent_batches(database, pipeline, {}, "other") == []

    assert (past_batch.jobs, past_batch.seconds) == (1, pytest.approx(2.0))


def test_generation_compares_only_with_equal_parameters(database: Database) -> None:
    pipeline = {pipeline.name: pipeline for pipeline in BUILTIN_PIPELINES}["sample-text-generation"]
    columns = {"pipeline": pipeline.name, "task": pipeline.task, "model": pipeline.model, "status": "completed"}
    batch_id = insert_batch(database, 8, **columns, succeeded=8, parameters={"max_new_tokens": 5, "seed": 1})
    set_claim_times(database, batch_id, 0, 2)

    assert forecast.recent_batches(database, pipeline, {"max_new_tokens": 50, "seed": 1}) == []
    assert forecast.recent_batches(database, pipeline, {"max_new_tokens": 5}) == []  # without a seed, rows share passes
    [past_batch] = forecast.recent_batches(database, pipeline, {"max_new_tokens": 5, "seed": 2})
    assert (past_batch.jobs, past_batch.seconds) == (8, pytest.approx(2.0))


def test_no_database_is_made_and_none_is_needed(tmp_path: Path, batchmill_home: Path) -> None:
    assert submit_dry(tmp_path, GOOD).exit_code == 0
    assert not batchmill_home.exists()

    away = CliRunner().invoke(
        batchmill.cli,
        [
            "--database-url",
            "postgresql://127.0.0.1:1/x",
            "submit",
            str(tmp_path / "a.jsonl"),
            "-p",
            SAMPLE,
            "--dry-run",
        ],
    )
    assert away.exit_code == 0
