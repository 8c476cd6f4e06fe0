"""How answers of every task look in one line."""

from typing import Any

import pytest

from producer.cli.display import output_text
from tests.factories.result_rows import vector_row

ENTITIES = [{"entity_group": "PER", "word": "Sarah", "score": 0.9}, {"entity": "B-LOC", "word": "London", "score": 0.9}]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({"label": "POSITIVE", "score": 0.99984}, "POSITIVE 0.9998"),
        ([{"label": "A", "score": 0.5}, {"label": "B", "score": 0.25}], "A 0.5000, B 0.2500"),
        ({"sequence": "s", "labels": ["a", "b"], "scores": [0.75, 0.25]}, "a 0.7500, b 0.2500"),
        ({"score": 0.5, "start": 0, "end": 5, "answer": "Clara"}, "Clara 0.5000"),
        ({"score": 0.5, "start": 0, "end": 0, "answer": ""}, "(no answer) 0.5000"),
        ([{"score": 0.5, "token": 3, "token_str": " capital", "sequence": "…"}], "capital 0.5000"),
        (ENTITIES, "Sarah PER, London B-LOC"),
        ([{"summary_text": "Short."}], "Short."),
        ([{"translation_text": "Hallo"}, {"translation_text": "Tag"}], "Hallo / Tag"),
        ([{"generated_text": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}], "Ho"),
        ({"score": 0.97313}, "0.9731"),
        ([{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}], "1: 0.7500, 0: 0.2500"),
        ([], "[]"),
        ([[[0.25, -0.5, 1.0]] * 12], "[[[0.2500, -0.5000, … 1 × 12 × 3 numbers]]]"),  # noqa: RUF001
        ([[{"token_str": "a"}]], '[[{"token_str": "a"}]]'),
        ({"other": 1}, '{"other": 1}'),
    ],
)
def test_outputs_are_formatted_by_structure(output: Any, words: str) -> None:
    assert output_text.format_output(output) == words


def test_a_vector_shows_its_first_numbers_and_its_length() -> None:
    assert output_text.format_outcome(vector_row(0, [0.04119, -0.0931, *[0.5] * 1022])) == (
        "[0.0412, -0.0931, … 1,024 numbers]"
    )
