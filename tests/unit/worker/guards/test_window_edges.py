"""What a guard looks for is found anywhere in a long text: behind the first window, and across the windows' edges."""

from collections.abc import Sequence
from typing import Any

import pytest

from models.guards.definition import Guard
from models.pipelines.pipeline import Pipeline
from worker.adapters.rows import Row
from worker.guards.guard_model import GuardModel, ModelReading, RowOutput
from worker.loading import runtime
from worker.passes import planning

GUARD = Guard(on="input", action="redact", pipeline="names", label="PERSON", threshold=0.5)
NAME = "Sarah Miller"
SENTENCE = f"My name is {NAME} and I live in Berlin. "
HARMLESS = "Thank you for your help. "  # a few tokens
SENTENCES = 120  # some windows of 256 tokens


@pytest.fixture(scope="module")
def model() -> GuardModel:
    """The bundled tagger of personal data, as a guard."""
    names = Pipeline(name="names", task="ner", model="bundled:personal-data")
    guarded = Pipeline(name="guarded", task="ner", model="bundled:personal-data", guards={"private": GUARD})
    loaded = runtime.load(guarded.with_guard_pipelines({"names": names}), "cpu", threads=1)
    return GuardModel("names", loaded.guards["names"])


def read(model: GuardModel, texts: Sequence[str]) -> list[ModelReading | Exception]:
    def run(rows: Sequence[Row]) -> list[RowOutput]:
        raw: dict[int, Any] = {}
        for batch in planning.plan_micro_batches(rows, 2_048, 64):
            raw.update(zip(map(id, batch.rows), model.runtime.adapter.forward(batch), strict=True))
        return [RowOutput(raw[id(row)]) for row in rows]

    return model.read(texts, run)


# Windows begin at each 190 tokens or so. An emoji, which has two code units, shifts all that follows by one character.
@pytest.mark.parametrize("places", [range(24, 44, 2), range(56, 76, 2), (0, 100, SENTENCES)], ids=str)
def test_a_name_is_found_at_any_place(model: GuardModel, places: Sequence[int]) -> None:
    texts = [
        "🙂" * (place % 5) + " " + HARMLESS * place + SENTENCE + HARMLESS * (SENTENCES - place) for place in places
    ]

    readings = read(model, texts)

    for text, reading in zip(texts, readings, strict=True):
        assert isinstance(reading, ModelReading)
        assert reading.windows > 2
        spans = model.reading_for(GUARD, reading).spans
        redacted = "".join(
            "█" if any(span.start <= place < span.end for span in spans) else character
            for place, character in enumerate(text)
        )
        assert "██" in redacted
        assert not any(part in redacted for part in NAME.split())


def test_a_harmless_text_has_no_names(model: GuardModel) -> None:
    [reading] = read(model, [HARMLESS * SENTENCES])

    assert isinstance(reading, ModelReading)
    assert not model.reading_for(GUARD, reading).caught
