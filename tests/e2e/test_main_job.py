"""The main job, held against transformers' own pipeline one text at a time."""

from pathlib import Path

from transformers import pipeline

from models.pipelines.pipeline import SAMPLES_FOLDER
from tests.deployment import PIPELINE, WAIT_TIMEOUT_SECONDS, random_texts, temporary_deployment

LONG = "good " * 700
STRANGE = [
    "Love it!",
    "no",
    "ÄÖÜ ß çà naïve façade",
    "これは素晴らしい製品です。",
    "هذا رائع",
    "🎉🎉🎉 best day ever 🎉",
    "x" * 5_000,
    "line one\nline two\r\nline three",
    "tab\tseparated",
    "\u2028 separators \u2029 inside",
    "<script>alert(1)</script>",
    "=cmd()",
    "   leading and trailing   ",
    LONG,
    "NULL",
    "null",
    "{}",
    "'; DROP TABLE results; --",
]


def test_every_input_is_answered_once_in_order_and_as_the_pipeline_answers(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    inputs = random_texts(600, seed=7) + STRANGE
    with temporary_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url, slice_size="128") as deployment:
        deployment.start("worker", PIPELINE, "--devices", "cpu")
        batch = deployment.client.submit(PIPELINE, inputs)
        batch.wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(batch.id, len(inputs))
        rows = sorted(batch.results(), key=lambda row: row.position)

    reference = pipeline("sentiment-analysis", model=str(SAMPLES_FOLDER / "sentiment-analysis"), device="cpu")
    assert [row.input["text"] for row in rows] == inputs
    for row in rows:
        [expected] = reference(row.input["text"], truncation=True)
        assert row.output["label"] == expected["label"]
        assert abs(row.output["score"] - expected["score"]) < 1e-4
    assert [row.truncated for row in rows[600:]] == [text == LONG for text in STRANGE]
