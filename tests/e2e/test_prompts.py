"""A prompt through the whole system: the answers are those of the same texts, submitted by hand."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import Deployment, temporary_deployment

PROMPT = "{title}\n{body} {{{title}}}"
ROWS = [
    {"title": "Great", "body": "I love this phone."},
    {"title": "{body}", "body": "It broke — after a week 😞"},
    {"title": "", "body": "Terrible food, never again."},
]
TOPICS = ["a fox", "{x}"]
GREEDY = {"do_sample": False, "max_new_tokens": 12}
CONFIG = f"""
[pipelines.reviews]
task = "sentiment-analysis"
model = "bundled:sentiment-analysis"
prompt = {json.dumps(PROMPT)}

[pipelines.topics]
task = "zero-shot-classification"
model = "bundled:zero-shot-classification"
prompt = "This is about {{x}}."

[pipelines.stories]
task = "text-generation"
model = "bundled:text-generation"
prompt = "Once there was {{x}}"

[pipelines.chats]
task = "text-generation"
model = "bundled:text-generation"
prompt = "Tell me about {{x}}."
system = "You are {{who}}."
"""
SAMPLES = ("sample-sentiment-analysis", "sample-zero-shot-classification", "sample-text-generation")


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    """A deployment with one worker process for the pipelines with a prompt, and for their models without one."""
    (tmp_path / "batchmill.toml").write_text(CONFIG)
    with temporary_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        deployment.start("worker", "reviews", "topics", "stories", "chats", *SAMPLES, "--devices", "cpu")
        yield deployment


def submit(deployment: Deployment, pipeline: str, rows: list[object], *options: str) -> str:
    (deployment.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = deployment.run("submit", "-p", pipeline, "in.jsonl", *options)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


def test_answers_are_those_of_the_rendered_texts(deployment: Deployment) -> None:
    greedy = [f"--param={name}={json.dumps(value)}" for name, value in GREEDY.items()]
    labels = '--param=candidate_labels=["animals","food"]'
    texts = [f"{row['title']}\n{row['body']} {{{row['title']}}}" for row in ROWS]
    chats = [
        [{"role": "system", "content": "You are kind."}, {"role": "user", "content": f"Tell me about {topic}."}]
        for topic in TOPICS
    ]
    pairs = [
        (submit(deployment, "reviews", list(ROWS)), submit(deployment, SAMPLES[0], list(texts))),
        (
            submit(deployment, "topics", [*TOPICS], labels),
            submit(deployment, SAMPLES[1], [f"This is about {topic}." for topic in TOPICS], labels),
        ),
        (
            submit(deployment, "stories", [*TOPICS], *greedy),
            submit(deployment, SAMPLES[2], [f"Once there was {topic}" for topic in TOPICS], *greedy),
        ),
        (
            submit(deployment, "chats", [{"x": topic, "who": "kind"} for topic in TOPICS], *greedy),
            submit(deployment, SAMPLES[2], [*chats], *greedy),
        ),
    ]

    for prompted, by_hand in pairs:
        for batch_id in (prompted, by_hand):
            assert deployment.run("wait", batch_id).returncode == 0, deployment.log
            deployment.assert_consistent(batch_id)
        assert deployment.outputs(prompted) == deployment.outputs(by_hand)
