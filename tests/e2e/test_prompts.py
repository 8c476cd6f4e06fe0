"""A prompt through the whole system: the answers are those of the same texts, submitted by hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, temporary_deployment

PROMPT = "{title}\n{body} {{{title}}}"
ROWS = [
    {"title": "Great", "body": "I love this phone."},
    {"title": "{body}", "body": "It broke — after a week 😞"},
    {"title": "", "body": "Terrible food, never again."},
]
TOPICS = ["a fox", "{x}"]
GREEDY = {"do_sample": False, "max_new_tokens": 12}
PIPELINES = {
    "reviews": {"task": "sentiment-analysis", "model": "bundled:sentiment-analysis", "prompt": PROMPT},
    "topics": {
        "task": "zero-shot-classification",
        "model": "bundled:zero-shot-classification",
        "prompt": "This is about {x}.",
    },
    "stories": {"task": "text-generation", "model": "bundled:text-generation", "prompt": "Once there was {x}"},
    "chats": {
        "task": "text-generation",
        "model": "bundled:text-generation",
        "prompt": "Tell me about {x}.",
        "system": "You are {who}.",
    },
}
SAMPLES = ("sample-sentiment-analysis", "sample-zero-shot-classification", "sample-text-generation")


@pytest.fixture
def deployment(
    tmp_path: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """A deployment with one worker process for the pipelines with a prompt, and for their models without one."""
    pipelines = json.dumps(PIPELINES)
    monkeypatch.setenv("BATCHMILL_PIPELINES", pipelines)  # for the client, which runs here
    with temporary_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, pipelines=pipelines
    ) as deployment:
        deployment.start("worker", *PIPELINES, *SAMPLES, "--devices", "cpu")
        yield deployment


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_answers_are_those_of_the_rendered_texts(deployment: Deployment) -> None:
    texts = [f"{row['title']}\n{row['body']} {{{row['title']}}}" for row in ROWS]
    chats = [
        [{"role": "system", "content": "You are kind."}, {"role": "user", "content": f"Tell me about {topic}."}]
        for topic in TOPICS
    ]
    labels = {"candidate_labels": ["animals", "food"]}
    cases: list[tuple[str, list[Any], str, list[Any], dict[str, Any]]] = [
        ("reviews", ROWS, SAMPLES[0], texts, {}),
        ("topics", TOPICS, SAMPLES[1], [f"This is about {topic}." for topic in TOPICS], labels),
        ("stories", TOPICS, SAMPLES[2], [f"Once there was {topic}" for topic in TOPICS], GREEDY),
        ("chats", [{"x": topic, "who": "kind"} for topic in TOPICS], SAMPLES[2], chats, GREEDY),
    ]
    submit = deployment.client.submit

    pairs = [
        (submit(pipeline, rows, parameters=parameters), submit(sample, by_hand, parameters=parameters))
        for pipeline, rows, sample, by_hand, parameters in cases
    ]

    for prompted, by_hand in pairs:
        for batch in (prompted, by_hand):
            batch.wait(WAIT_TIMEOUT_SECONDS)
            deployment.assert_completed(batch.id, batch.request_counts.total)
        assert deployment.outputs(prompted.id) == deployment.outputs(by_hand.id)
