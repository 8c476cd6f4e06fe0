"""A dry run on both databases: it tells what would be, and writes nothing."""

import json
from datetime import timedelta
from pathlib import Path

from click.testing import CliRunner, Result
from sqlalchemy import text

import batchmill
from models.db import Database
from producer.submission import dry_run
from tests.factories.batch_rows import FIRST_CREATED_AT, execute, insert_batch

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
        "takes         not known: no batch of this pipeline has been answered yet",
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


def test_json(database: Database, tmp_path: Path) -> None:
    document = json.loads(submit_dry(tmp_path, BAD, "--json").stdout)

    assert (document["rows"], document["jobs"], document["invalid_rows"], document["duplicate_ids"]) == (4, 2, 2, 1)
    assert sum(row["inputs"] for row in document["lengths"]["histogram"]) == 2


def test_the_pace_is_that_of_the_last_batches(database: Database, tmp_path: Path) -> None:
    insert_batch(database, 8, pipeline=SAMPLE, status="completed", succeeded=8)
    insert_batch(database, 8, pipeline="other", status="completed", succeeded=8)
    begun, done = FIRST_CREATED_AT, FIRST_CREATED_AT + timedelta(seconds=2)
    form = "%Y-%m-%d %H:%M:%S.000" if database.url.startswith("sqlite") else "%Y-%m-%d %H:%M:%S+00"
    execute(
        database,
        "UPDATE slices SET first_claimed_at = :begun, done_at = :done WHERE batch_id LIKE 'batch%'",
        begun=begun.strftime(form),
        done=done.strftime(form),
    )

    assert dry_run.recent_jobs_per_second(database.url, SAMPLE) == 4.0
    assert "about 0 s at 4.0 jobs/s" in submit_dry(tmp_path, GOOD).stdout
    assert dry_run.recent_jobs_per_second(database.url, "nobody's") is None


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
