"""The guards of a pipeline as `batchmill models show` prints them."""

from models.guards.definition import Guard
from models.pipelines.pipeline import Pipeline
from worker.cli.guard_models import guard_lines

COMMIT = "1" * 40
RULES = {
    "contacts": {"on": "input", "action": "redact", "pii": ["email", "phone"]},
    "secrets": {"on": "output", "action": "fail", "words": ["canary", "raven"]},
    "length": {"on": "input", "action": "fail", "max_characters": 2_000},
    "keys": {"on": "output", "action": "flag", "pattern": "canary"},
}


def pipeline(guards: dict[str, dict[str, object]], guard_pipelines: dict[str, Pipeline] | None = None) -> Pipeline:
    checked = {name: Guard.model_validate(fields) for name, fields in guards.items()}
    entry = Pipeline(name="p", task="sentiment-analysis", model="made/p", revision=COMMIT)
    return entry.model_copy(update={"guards": checked}).with_guard_pipelines(guard_pipelines or {})


def test_each_rule_is_named_without_its_words_and_pattern() -> None:
    assert guard_lines(pipeline(RULES), {}, has_advice=True) == [
        "contacts (input): redact by personal data: email, phone",
        "secrets (output): fail by 2 words",
        "length (input): fail by more than 2,000 characters",
        "keys (output): flag by a pattern",
    ]


def test_the_command_that_fetches_models_is_named_once() -> None:
    tone = Pipeline(name="tone", task="sentiment-analysis", model="made/tone", revision=COMMIT)
    model = {"pipeline": "tone", "model": "made/tone", "revision": COMMIT, "folder": None}
    guards = {name: {"on": "input", "action": "fail", "pipeline": "tone", "label": name} for name in ("A", "B")}

    first, second = guard_lines(
        pipeline(guards, {"tone": tone}), {name: dict(model) for name in guards}, has_advice=True
    )

    place = f"made/tone@{COMMIT[:19]}, which is not here"
    assert first == f"A (input): fail by A of tone ({place}; fetch it: batchmill models pull p)"
    assert second == f"B (input): fail by B of tone ({place})"
