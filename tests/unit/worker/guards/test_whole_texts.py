"""Guards read whole texts: their readings equal those of windows that are cut and computed by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from models.guards.definition import Guard
from tests.factories import tiny_encoders
from tests.factories.tiny_models import pipeline_for
from worker.adapters.rows import Row
from worker.guards.guard_model import GuardModel, ModelReading, RowOutput
from worker.loading import guard_models, runtime
from worker.passes import planning

LABELS = ("SAFE", "INJECTION")

# Pieces are one letter, or a word of the vocabulary; the emoji is unknown, and é has two forms.
TEXTS = [
    "love it",
    "love the great product " * 40,
    "the " * 100 + "terrible hate " + "a " * 300,
    "🙂 café cafe\u0301 世界 " * 30 + "hate",
    "x" * 90 + " " + "terrible" * 50,
]

CASES = [
    *(("bert", text) for text in TEXTS),
    *((name, TEXTS[3]) for name in ("roberta", "xlm-roberta", "deberta-v2", "modernbert")),
]


def guard_model(folder: Path, task: str, guard: Guard) -> GuardModel:
    checker = pipeline_for(folder, name="checker", task=task)
    guarded = pipeline_for(folder, name="guarded", task=task, guards={"one": guard})
    loaded = runtime.load(guarded.with_guard_pipelines({"checker": checker}), "cpu", threads=1)
    return GuardModel("checker", loaded.guards["checker"])


def read(model: GuardModel, texts: Sequence[str]) -> list[ModelReading]:
    def run(rows: Sequence[Row]) -> list[RowOutput]:
        raw: dict[int, Any] = {}
        for batch in planning.plan_micro_batches(rows, 512, 16):
            raw.update(zip(map(id, batch.rows), model.runtime.adapter.forward(batch), strict=True))
        return [RowOutput(raw[id(row)]) for row in rows]

    readings = model.read(texts, run)
    assert all(isinstance(reading, ModelReading) for reading in readings), readings
    return readings  # type: ignore[return-value]


def windows(count: int, max_length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each window of a text with so many tokens."""
    room, overlap = max_length - 2, guard_models.default_overlap(max_length)  # beside two special tokens
    assert overlap is not None
    start = 0
    while True:
        yield start, min(start + room, count)
        if start + room >= count:
            return
        start += room - overlap


def logits_by_hand(folder: Path, auto_class: Any, text: str) -> list[tuple[list[tuple[int, int]], torch.Tensor]]:
    """The characters of the tokens of each window, and what the model says of it, special tokens included."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), auto_class.from_pretrained(folder)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    outputs = []
    for start, end in windows(len(encoded["input_ids"]), tokenizer.model_max_length):
        ids = [tokenizer.cls_token_id, *encoded["input_ids"][start:end], tokenizer.sep_token_id]
        with torch.inference_mode():
            outputs.append((encoded["offset_mapping"][start:end], model(torch.tensor([ids])).logits[0]))
    return outputs


@pytest.mark.parametrize(("architecture", "text"), CASES, ids=map(str, range(len(CASES))))
def test_a_classifier_s_score_is_the_highest_of_all_windows(tmp_path: Path, architecture: str, text: str) -> None:
    folder = tiny_encoders.nli_model(tmp_path / architecture, architecture, LABELS)
    guard = Guard(on="input", action="fail", pipeline="checker", label="INJECTION", threshold=0.5)
    by_hand = [
        logits.softmax(-1)[1].item() for _, logits in logits_by_hand(folder, AutoModelForSequenceClassification, text)
    ]

    model = guard_model(folder, "sentiment-analysis", guard)
    [reading] = read(model, [text])

    got = model.reading_for(guard, reading)
    assert got.score == pytest.approx(max(by_hand), abs=1e-5)
    assert got.caught is (got.score >= 0.5)
    assert reading.windows == len(by_hand)


@pytest.mark.parametrize(("architecture", "text"), CASES, ids=map(str, range(len(CASES))))
def test_a_tagger_s_spans_cover_what_any_window_tags(tmp_path: Path, architecture: str, text: str) -> None:
    folder = tiny_encoders.token_classifier(tmp_path / architecture, architecture)
    guard = Guard(on="input", action="redact", pipeline="checker", label="PER", threshold=0)
    tagged = set()
    for offsets, logits in logits_by_hand(folder, AutoModelForTokenClassification, text):
        for (start, end), label in zip(offsets, logits[1:-1].argmax(-1).tolist(), strict=True):
            if tiny_encoders.NER_LABELS[label].endswith("PER"):
                tagged.update(place for place in range(start, end) if not text[place].isspace())

    model = guard_model(folder, "ner", guard)
    [reading] = read(model, [text])

    spans = model.reading_for(guard, reading).spans
    covered = {place for span in spans for place in range(span.start, span.end)}
    assert tagged <= covered
    assert {span.label for span in spans} <= {"PER"}
    assert all(not text[span.start].isspace() and not text[span.end - 1].isspace() for span in spans)


def test_a_text_s_reading_depends_on_no_other_text(tmp_path: Path) -> None:
    folder = tiny_encoders.nli_model(tmp_path / "bert", "bert", LABELS)
    guard = Guard(on="input", action="fail", pipeline="checker", label="INJECTION")
    model = guard_model(folder, "sentiment-analysis", guard)

    together = [model.reading_for(guard, reading) for reading in read(model, TEXTS)]
    alone = [model.reading_for(guard, read(model, [text])[0]) for text in TEXTS]

    for one, other in zip(together, alone, strict=True):
        assert (one.caught, one.label) == (other.caught, other.label)
        assert one.score == pytest.approx(other.score, abs=1e-5)
