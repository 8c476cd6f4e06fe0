"""Prompts on both databases: rows keep their fields, the batch keeps the template, and the worker gets both."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import batchmill
from batchmill import Client
from models.db import Database
from models.errors import IdempotencyConflict, InvalidParameters, InvalidRows
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.settings import Settings
from producer.batches import views
from tests import fake_worker
from tests.factories.batch_rows import REVISION, assert_consistent, claimant_for, get_batch, get_unanswered_jobs
from worker.engine.preparing.rendering import render
from worker.leasing.claiming import claims
from worker.leasing.leases import Job

NAME = "reviews"
PROMPT = "{title}:\n{body}"
GOOD = {"label": "POSITIVE", "score": 0.5}
FAKE_REVISION = "abc"  # that of the fake worker's results
NO_REDIS = "redis://127.0.0.1:1/0"
CSV = 'id,title,body,region\n1,Great,"{title}, really",EU\n2,"",Fine,US\n'


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_REDIS_URL", NO_REDIS)
    monkeypatch.setenv("BATCHMILL_REDIS_TIMEOUT_SECONDS", "0.2")
    set_prompt(monkeypatch, PROMPT)


@pytest.fixture
def client(database: Database) -> Iterator[Client]:
    with Client(database.url, NO_REDIS) as client:
        yield client


def set_prompt(monkeypatch: pytest.MonkeyPatch, prompt: str, **fields: Any) -> Pipeline:
    """Set the catalogue's entry, as an operator does in batchmill.toml."""
    entry = {"task": "sentiment-analysis", "model": "bundled:sentiment-analysis", "prompt": prompt, **fields}
    monkeypatch.setenv("BATCHMILL_PIPELINES", json.dumps({NAME: entry}))
    return Catalogue.load(Settings.load())[NAME]


def invoke(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(batchmill.cli, list(arguments))
    assert result.exit_code == exit_code, result.output
    return result


def submit(*arguments: str) -> str:
    return invoke("submit", "--pipeline", NAME, *arguments).stdout.strip()


def claim_jobs(database: Database, revision: str = REVISION) -> list[Job]:
    """Claim all that is open, as a worker of the pipeline does."""
    claimant = claimant_for(pipeline=NAME, model="bundled:sentiment-analysis", revision=revision)
    return get_unanswered_jobs(database, claims.claim(database, claimant, 1000, 4))


def read_texts(jobs: list[Job]) -> list[Any]:
    rendered = [render(job) for job in jobs]
    return [job.input if isinstance(job, Job) else job.code for job in rendered]


def test_columns_become_fields_and_a_worker_renders_them(database: Database, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CSV)

    batch_id = submit(str(tmp_path / "in.csv"), "--passthrough", "*")

    jobs = claim_jobs(database)
    assert [job.input for job in jobs] == [{"title": "Great", "body": "{title}, really"}, {"title": "", "body": "Fine"}]
    assert read_texts(jobs) == [{"text": "Great:\n{title}, really"}, {"text": ":\nFine"}]
    assert jobs[0].lease.parameters == {}
    batch = views.get_batch(database, batch_id)
    assert batch.parameters == {"prompt": PROMPT}
    assert_consistent(database, batch_id)


def test_a_worker_renders_by_the_batch_and_not_by_the_catalogue(
    database: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.submit(NAME, [{"title": "a", "body": "b"}])

    set_prompt(monkeypatch, "{other}")

    assert read_texts(claim_jobs(database)) == [{"text": "a:\nb"}]


def test_other_columns_are_mapped_to_the_names(database: Database, client: Client, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"headline": "a", "body": 7}\n')

    submit(str(tmp_path / "in.jsonl"), "--input", "title=headline")
    client.submit(NAME, [{"head": "c", "body": True}], input_columns={"title": "head"})

    assert read_texts(claim_jobs(database)) == [{"text": "a:\n7"}, {"text": "c:\ntrue"}]
    refused = invoke("submit", "-p", NAME, str(tmp_path / "in.jsonl"), "--input", "text=headline", exit_code=2)
    assert "has no input 'text'; it takes: title, body, text_pair" in refused.stderr


def test_a_table_without_a_column_of_the_prompt_is_refused(database: Database, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,body\n1,a\n")

    refused = invoke("submit", "-p", NAME, str(tmp_path / "in.csv"), exit_code=2)

    assert "has no column 'title'; it has: id, body; say which to use: --input title=COLUMN" in refused.stderr


def test_a_row_without_a_field_is_a_problem_of_its_own_and_can_be_repaired(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": "A", "title": "a", "body": "b"}, {"id": "B", "title": "c"}, {"id": "C", "title": "d", "body": None}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = invoke("submit", "-p", NAME, str(path), exit_code=2)
    assert "line 2: has no 'body'; it has: id, title" in refused.stderr
    assert "line 3: body is missing; an input needs title and body" in refused.stderr

    batch_id = submit(str(path), "--on-invalid", "fail-row")
    fake_worker.write_results(database, batch_id, [(0, GOOD)])
    fake_worker.end_batch(database, batch_id)
    set_prompt(monkeypatch, "{other}")  # the repaired rows are those of the batch
    (tmp_path / "fixed.csv").write_text("position,title,body\n1,c,mended\n2,d,mended too\n")
    invoke("submit", "--repair", batch_id, str(tmp_path / "fixed.csv"))

    counts = views.get_batch(database, batch_id).counts
    assert (counts.succeeded, counts.failed, counts.unanswered) == (1, 0, 2)
    assert read_texts(claim_jobs(database, FAKE_REVISION)) == [{"text": "c:\nmended"}, {"text": "d:\nmended too"}]


def test_an_exported_table_has_a_column_for_each_field_and_repairs_the_batch(
    database: Database, client: Client, tmp_path: Path
) -> None:
    batch = client.submit(NAME, [{"title": "=a", "body": "b"}, {"title": "c", "body": "d"}])
    fake_worker.write_results(database, batch.id, [(0, "model_error"), (1, GOOD)])
    fake_worker.end_batch(database, batch.id)

    invoke("results", batch.id, "-o", str(tmp_path / "out.csv"))

    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["title"], row["body"], row["status"]) for row in rows] == [
        ("'=a", "b", "failed"),
        ("c", "d", "succeeded"),
    ]
    assert batch.retry().request_counts.unanswered == 1
    assert read_texts(claim_jobs(database, FAKE_REVISION)) == [{"text": "=a:\nb"}]


def test_a_submitter_can_not_set_the_template(client: Client) -> None:
    with pytest.raises(InvalidParameters, match="sentiment-analysis has no parameter 'prompt'"):
        client.submit(NAME, [{"title": "a", "body": "b"}], parameters={"prompt": "{body}"})


def test_a_prompt_that_gets_too_long_is_refused_with_its_row(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    set_prompt(monkeypatch, "{title}" * 11)

    with pytest.raises(InvalidRows, match="item 2: with the pipeline's prompt it has 1,100,000 characters"):
        client.submit(NAME, ["a", "a" * 100_000])


def test_a_changed_template_shares_no_results_but_a_repeated_request_keeps_the_first_one(
    database: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"title": "a", "body": "b"}]
    first = client.submit(NAME, rows, idempotency_key="monday")
    assert client.submit(NAME, rows, idempotency_key="monday").id == first.id

    set_prompt(monkeypatch, PROMPT + "!")
    with Client(database.url, NO_REDIS) as changed:
        assert changed.submit(NAME, rows, idempotency_key="monday").id == first.id
        other = changed.submit(NAME, rows)
    assert get_batch(database, first.id).parameters["prompt"] == PROMPT

    keys = {get_batch(database, batch_id).output_cache_key for batch_id in (first.id, other.id)}
    assert len(keys) == 2
    assert None not in keys


def test_a_repeated_request_is_refused_if_the_prompt_names_other_fields(
    database: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.submit(NAME, [{"title": "a", "body": "b"}], idempotency_key="monday")

    set_prompt(monkeypatch, "{other}")
    with (
        Client(database.url, NO_REDIS) as changed,
        pytest.raises(IdempotencyConflict, match=f"{first.id}, whose prompt names other fields: title, body"),
    ):
        changed.submit(NAME, [{"other": "a"}], idempotency_key="monday")


def test_displays_name_the_fields_and_hash_the_template(database: Database, client: Client) -> None:
    batch = client.submit(NAME, [{"title": "a", "body": "b"}])

    shown = invoke("show", batch.id).stdout + invoke("show", batch.id, "--json").stdout
    listed = invoke("pipelines", "--json").stdout + invoke("models", "show", NAME).stdout

    assert '"prompt": "sha256:' in shown
    assert PROMPT not in shown + listed
    assert "title, body, [text_pair], which its prompt names" in listed
    assert "title, body, [text_pair]" in invoke("pipelines").stdout


def test_a_dry_run_measures_the_rendered_text(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_prompt(monkeypatch, "good " * 600 + "{title}")
    (tmp_path / "in.jsonl").write_text('{"title": "a"}\n{"title": ""}\n')

    report = json.loads(
        invoke(
            "submit", "-p", NAME, str(tmp_path / "in.jsonl"), "--dry-run", "--json", "--on-invalid", "fail-row"
        ).stdout
    )

    assert (report["jobs"], report["invalid_rows"]) == (1, 1)
    assert report["lengths"]["max"] > 600
    assert report["lengths"]["too_long"] == 1
