"""The engine with real models: what guards look for in a long text is found, and each verdict names its model."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from models.db import Database
from models.guards.definition import Guard
from models.pipelines.folder_hash import content_hash
from models.pipelines.pipeline import Pipeline
from models.tables.batches import Job
from tests.factories.batch_rows import assert_consistent, claimant_for, get_batch, get_results, insert_batch
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.servers import wait_until
from worker.engine.engine import Engine
from worker.loading import runtime

GUARDS = {
    "tone": Guard(on="input", action="fail", pipeline="tone", label="NEGATIVE", threshold=0.9),
    "strict": Guard(on="input", action="flag", pipeline="tone", label="NEGATIVE", threshold=0.0),
    "private": Guard(on="input", action="redact", pipeline="names", label="PERSON"),
}
PRAISE = "I love this product. It is great. "
LONG_PRAISE = PRAISE * 80  # past the 512 tokens of the model
COMPLAINT = "I hate this product. It is terrible. " * 60
NAMED = "Thank you for your help. " * 90 + "My name is Sarah Miller and I live in Berlin."


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def loaded() -> runtime.Runtime:
    """The bundled sentiment pipeline, guarded by itself and by the tagger of personal data."""
    tone = Pipeline(name="tone", task="sentiment-analysis", model="bundled:sentiment-analysis")
    names = Pipeline(name="names", task="ner", model="bundled:personal-data")
    guarded = tone.model_copy(update={"name": "reviews", "guards": GUARDS, "truncation": "stride"})
    return runtime.load(guarded.with_guard_pipelines({"tone": tone, "names": names}), "cpu", threads=1)


def test_what_hides_in_long_texts_is_found(database: Database, loaded: runtime.Runtime) -> None:
    texts = [PRAISE, LONG_PRAISE + COMPLAINT + LONG_PRAISE, NAMED, LONG_PRAISE]
    batch_id = insert_batch(
        database,
        [{"text": text} for text in texts],
        task="sentiment-analysis",
        model=loaded.version.model,
        revision=loaded.version.revision,
    )
    version = loaded.version
    claimant = claimant_for(task=version.task, model=version.model, revision=version.revision, guards=GUARDS)
    engine = Engine(make_context(database), make_loaded_pipeline(database, loaded, claimant))

    engine.start()
    wait_until(lambda: get_batch(database, batch_id).status == "completed", "the batch")
    engine.stop()
    engine.join()

    assert_consistent(database, batch_id)
    results = {row.position: row for row in get_results(database, batch_id)}
    verdicts = {position: _verdicts(row) for position, row in results.items()}
    assert [results[position].error_code for position in range(4)] == [None, "guard_blocked", None, None]
    assert {guard: verdict["action"] for guard, verdict in verdicts[0].items()} == {
        "tone": "pass",
        "strict": "flag",
        "private": "pass",
    }
    assert set(verdicts[1]) == {"tone"}, "a guard after one that blocked does not run"
    assert verdicts[1]["tone"]["score"] > 0.9
    assert verdicts[0]["tone"]["score"] == verdicts[0]["strict"]["score"] < 0.9
    assert results[3].windows > 1
    for verdict in verdicts[2].values():
        model = "personal-data" if verdict["guard"] == "private" else "sentiment-analysis"
        folder = Pipeline(name="any", task="ner", model=f"bundled:{model}").folder
        assert folder is not None
        assert (verdict["model"], verdict["revision"]) == (f"bundled:{model}", content_hash(folder))

    assert verdicts[2]["private"]["action"] == "redact"
    with database.read() as connection:
        job = connection.execute(
            select(Job.input, Job.redacted).where(Job.batch_id == batch_id, Job.position == 2)
        ).one()
    assert job.redacted
    assert "Sarah" not in json.dumps(job.input)
    assert "[REDACTED]" in json.dumps(job.input)


def _verdicts(row: Any) -> dict[str, Any]:
    documents = json.loads(row.guards) if isinstance(row.guards, str) else row.guards
    return {document["guard"]: document for document in documents}
