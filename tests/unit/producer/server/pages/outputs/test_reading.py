"""Outputs of each task are read by their form, and any other JSON is shown as it is."""

import json
from typing import Any

import pytest

from models import tasks, vectors
from producer.server.pages.outputs.reading import Reading, Scored, read_output


def read(output: Any, document: dict[str, Any] | None = None) -> Reading:
    text = output if isinstance(output, str) and output.startswith("RAW") else json.dumps(output)
    return read_output(text, len(text), None, document or {})


KINDS = {
    "sentiment-analysis": "labels",
    "zero-shot-classification": "labels",
    "ner": "entities",
    "question-answering": "answer",
    "fill-mask": "labels",
    "text-generation": "texts",
    "summarization": "texts",
    "translation": "texts",
    "feature-extraction": "vector",
}


@pytest.mark.parametrize(("task", "kind"), KINDS.items())
def test_the_example_of_each_task_is_read(task: str, kind: str) -> None:
    spec = tasks.TASKS[task]

    assert read(spec.example_output, spec.example_input).kind == kind


def test_a_label_has_its_score_and_share() -> None:
    assert read({"label": "POSITIVE", "score": 0.98461}).labels == (Scored("POSITIVE", "0.985", 0.98461),)


@pytest.mark.parametrize(
    ("score", "text"), [(0, "0.000"), (1e-9, "< 0.001"), (0.9996, "> 0.999"), (1.0, "1.000"), (0.999, "0.999")]
)
def test_a_share_is_neither_all_nor_nothing_unless_it_is(score: float, text: str) -> None:
    assert read({"label": "x", "score": score}).labels[0].score == text


def test_the_best_labels_are_shown_and_the_others_are_counted() -> None:
    reading = read([{"label": f"l{number}", "score": 0.01} for number in range(30)])

    assert (len(reading.labels), reading.hidden) == (20, 10)


def test_a_score_outside_of_0_to_1_has_no_share() -> None:
    assert read([{"index": 3, "score": -4.25, "text": "b"}]).labels == (Scored("#3 b", "-4.25", None),)


def test_the_entities_are_marked_in_the_text() -> None:
    reading = read([{"entity": "B-PER", "score": 0.9, "word": "Sarah", "start": 0, "end": 5}], {"text": "Sarah sings"})

    assert [(piece.text, piece.label) for piece in reading.pieces] == [("Sarah", "B-PER"), (" sings", "")]
    assert reading.labels[0].label == "Sarah · B-PER"


def test_the_last_message_of_a_conversation_is_the_text() -> None:
    conversation = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]

    assert read([{"generated_text": conversation}]).texts == ("hello",)


def test_a_vector_shows_its_first_numbers_and_their_count() -> None:
    reading = read_output(None, None, vectors.from_numbers([0.5] * 384), {})

    assert (reading.kind, reading.numbers, reading.dimensions) == ("vector", ("0.5",) * 4, 384)


def test_a_flat_object_is_pairs() -> None:
    assert read({"quality": 4, "is_ad": False, "note": None}).pairs == (
        ("quality", "4"),
        ("is_ad", "false"),
        ("note", "null"),
    )


@pytest.mark.parametrize(
    "output",
    [
        42,
        None,
        [[1, [2, 3]]],
        {"a": {"b": 1}},
        {},
        {"labels": [], "scores": []},
        [{"generated_text": []}],
        [{"generated_text": [{"role": "x"}]}],
        [{"a": 1}, 5],
    ],
)
def test_any_other_output_is_shown_as_json(output: Any) -> None:
    reading = read(output)

    assert reading.kind == "json"
    assert json.loads(reading.json) == output


@pytest.mark.parametrize("output", [[{"label": 5, "score": 1}], [{"entity": None}]])
def test_a_list_of_one_flat_object_is_pairs(output: Any) -> None:
    assert read(output).kind == "pairs"


def test_an_empty_list_is_no_json() -> None:
    assert read([]).kind == "empty"


@pytest.mark.parametrize(
    "output",
    [
        {"label": "x", "score": None},
        {"label": "x", "score": "0.5"},
        {"label": "x", "score": True},
        {"label": "x", "score": 10**400},
        {"labels": ["x", None, 3], "scores": [0.1]},
        {"answer": "x", "score": [], "start": "y", "end": {}},
        [{"entity": "x", "word": ["y"], "start": {}, "end": None, "score": "z"}],
        [{"token_str": "x", "score": -1}],
        [{"index": 1, "score": 2, "text": {"a": 1}}],
    ],
)
def test_fields_of_another_type_are_no_reason_to_fail(output: Any) -> None:
    assert read(output).kind in ("labels", "answer", "entities")


def test_numbers_that_are_not_finite_have_no_share() -> None:
    assert read_output('{"label": "x", "score": NaN}', None, None, {}).labels == (Scored("x"),)


@pytest.mark.parametrize("text", ["[" * 5_000, '{"a":' * 101 + "1" + "}" * 101, "{", "nonsense"])
def test_deep_and_broken_json_is_shown_as_it_is(text: str) -> None:
    assert read_output(text, len(text), None, {}) == Reading("json", json=text)


def test_a_text_that_was_cut_is_read_up_to_there() -> None:
    whole = json.dumps([{"generated_text": "word " * 10_000}])

    reading = read_output(whole[:1_000], len(whole), None, {})

    assert (reading.kind, reading.is_cut) == ("texts", True)
    assert reading.texts[0].startswith("word word")


def test_ten_thousand_entities_are_bounded() -> None:
    output = [{"entity_group": "PER", "score": 0.9, "word": "w", "start": n, "end": n + 1} for n in range(10_000)]

    reading = read(output, {"text": "x" * 20_000})

    assert (len(reading.labels), reading.hidden) == (20, 9_980)
    assert len(reading.pieces) < 1_100
