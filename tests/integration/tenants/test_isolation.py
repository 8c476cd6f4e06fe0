"""What belongs to a tenant does not exist for others: submissions, listings, and batches made from results."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import batchmill
from batchmill import Client
from models.db import Database
from models.errors import IdempotencyConflict, NotFound, UsageError
from models.pipelines.builtin import BUILTIN_PIPELINES
from producer.batches import views
from producer.batches.actions import followers
from producer.batches.listing import BatchFilter
from producer.readers.rows import Row, Source
from producer.submission import submit
from producer.submission.request import SubmitRequest
from tests import fake_worker

SAMPLE = "sample-sentiment-analysis"
PIPELINE = next(pipeline for pipeline in BUILTIN_PIPELINES if pipeline.name == SAMPLE)


@pytest.fixture(autouse=True)
def environment(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHMILL_REDIS_URL", redis_url)


def accept(database: Database, tenant: str, text: str = "good", **fields: Any) -> str:
    request = SubmitRequest.create(PIPELINE, tenant=tenant, **fields)
    source = Source("a.jsonl", "line", iter([Row(1, None, text)]))
    return submit.submit(database, 4, request, source).batch_id


def ended(database: Database, tenant: str) -> str:
    batch_id = accept(database, tenant)
    fake_worker.write_results(database, batch_id, [(0, [{"label": "GOOD", "score": 0.9}])])
    fake_worker.end_batch(database, batch_id)
    return batch_id


def run(*arguments: str) -> Result:
    return CliRunner().invoke(batchmill.cli, arguments)


def test_the_same_key_of_two_tenants_is_two_batches(database: Database) -> None:
    first = accept(database, "acme", "good", idempotency_key="nightly")
    other = accept(database, "other", "bad", idempotency_key="nightly")

    assert first != other
    assert accept(database, "acme", "good", idempotency_key="nightly") == first
    with pytest.raises(IdempotencyConflict, match=first) as caught:
        accept(database, "acme", "good", idempotency_key="nightly", name="changed")
    assert other not in str(caught.value)


def test_a_tenant_s_name_is_checked() -> None:
    with pytest.raises(UsageError, match="no tenant's name"):
        SubmitRequest.create(PIPELINE, tenant="a b")


class TestFromResults:
    def test_only_batches_of_the_same_tenant(self, database: Database) -> None:
        theirs, ours = ended(database, "other"), ended(database, "acme")
        with Client() as client:
            options: dict[str, Any] = {"input_columns": {"text": "output.label"}, "tenant": "acme"}
            with pytest.raises(NotFound) as caught:
                client.submit(SAMPLE, from_batch=theirs, **options)
            with pytest.raises(NotFound) as unknown:
                client.submit(SAMPLE, from_batch="batch_unknown", **options)
            made = client.submit(SAMPLE, from_batch=ours, **options)

        assert str(caught.value) == str(unknown.value).replace("batch_unknown", theirs)
        assert followers.list_followers(database, ours) == [made.id]
        assert followers.list_followers(database, theirs) == []

    def test_the_command_too(self, database: Database) -> None:
        theirs = ended(database, "other")
        words = ("submit", "--from", theirs, "-p", SAMPLE, "--input", "text=output.label")

        assert run(*words).exit_code == 4
        assert run(*words, "--tenant", "acme").exit_code == 4
        assert run(*words, "--tenant", "other").exit_code == 0

    def test_a_caller_that_reads_them_anyway(self, database: Database) -> None:
        theirs = ended(database, "other")
        batches = len(views.list_batches(database, 9))

        with pytest.raises(NotFound, match=theirs):
            accept(database, "acme", source_batch_id=theirs)

        assert len(views.list_batches(database, 9)) == batches


class TestListing:
    def test_by_tenant(self, database: Database) -> None:
        theirs, ours, newer = (accept(database, tenant) for tenant in ("other", "acme", "acme"))

        with Client() as client:
            assert [batch.id for batch in client.batches(tenant="acme")] == [newer, ours]
            assert [batch.id for batch in client.batches(tenant="acme", after=newer)] == [ours]
            assert len(client.batches()) == 3
            with pytest.raises(NotFound):
                client.batches(tenant="acme", after=theirs)
        listed = json.loads(run("ls", "--tenant", "other", "--json").stdout)
        assert [(batch["id"], batch["tenant"]) for batch in listed["data"]] == [(theirs, "other")]

    def test_a_batch_of_another_tenant_is_like_none(self, database: Database) -> None:
        theirs = accept(database, "other")

        for read in (
            views.get_batch,
            lambda *of: views.list_batches(database, 9, BatchFilter(after=of[1], tenant=of[2])),
        ):
            with pytest.raises(NotFound) as caught:
                read(database, theirs, "acme")
            with pytest.raises(NotFound) as unknown:
                read(database, "batch_unknown", "acme")
            assert str(caught.value) == str(unknown.value).replace("batch_unknown", theirs)


def test_submitting_for_a_tenant(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('"good"\n')

    named = run("submit", str(file), "-p", SAMPLE, "--tenant", "acme").stdout.strip()
    unnamed = run("submit", str(file), "-p", SAMPLE).stdout.strip()

    assert [views.get_batch(database, batch_id).tenant for batch_id in (named, unnamed)] == ["acme", "default"]
    assert "tenant       acme\n" in run("show", named).stdout
    assert "tenant" not in run("show", unnamed).stdout
