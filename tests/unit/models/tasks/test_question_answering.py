from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError

SPEC = tasks.find_spec("question-answering")


class TestInputs:
    def test_both_texts_are_kept_as_they_are(self) -> None:
        raw = {"question": " Who?\n", "context": "😀 e\u0301 \u2028 me", "id": 7}

        assert SPEC.normalise(raw) == {"question": " Who?\n", "context": "😀 e\u0301 \u2028 me"}

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ("Who?", "not_text"),
            (None, "not_text"),
            (["Who?", "me"], "not_text"),
            (3, "not_text"),
            ({"question": "Who?"}, "missing_field"),
            ({"context": "me"}, "missing_field"),
            ({}, "missing_field"),
            ({"question": None, "context": "me"}, "missing_field"),
            ({"question": "", "context": "me"}, "empty_text"),
            ({"question": "Who?", "context": " \n\u3000"}, "empty_text"),
            ({"question": ["Who?"], "context": "me"}, "not_text"),
            ({"question": "Who?", "context": 3}, "not_text"),
            ({"question": "Who?", "context": "a\0b"}, "invalid_text"),
            ({"question": "a\ud800", "context": "me"}, "invalid_text"),
            ({"question": "Who?", "context": "x" * 1_000_001}, "text_too_long"),
        ],
    )
    def test_each_kind_of_bad_input_has_its_code(self, raw: object, expected: str) -> None:
        with pytest.raises(JobError) as caught:
            SPEC.normalise(raw)
        assert caught.value.code == expected


class TestParameters:
    def test_only_what_is_given_is_kept(self) -> None:
        parameters = {"top_k": 3, "doc_stride": None, "max_seq_len": 128, "align_to_words": False}

        assert SPEC.check_parameters(parameters) == parameters
        assert SPEC.check_parameters({}) == {}

    @pytest.mark.parametrize(
        "parameters",
        [
            {"top_k": 0},
            {"top_k": 101},
            {"top_k": None},
            {"top_k": True},
            {"top_k": "1"},
            {"doc_stride": -1},
            {"doc_stride": 1.5},
            {"max_answer_len": 0},
            {"max_answer_len": 10_001},
            {"max_seq_len": 0},
            {"max_seq_len": 100_001},
            {"max_question_len": 0},
            {"handle_impossible_answer": 1},
            {"align_to_words": "yes"},
            {"topk": 1},
            {"padding": "longest"},
            {"trust_remote_code": True},
        ],
    )
    def test_anything_else_is_refused_by_name(self, parameters: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameters, match=f"{next(iter(parameters))!r}"):
            SPEC.check_parameters(parameters)

    @pytest.mark.parametrize("shared", [64, 65, 1_000])
    def test_windows_must_be_longer_than_what_they_share(self, shared: int) -> None:
        with pytest.raises(InvalidParameters, match="'max_seq_len' must be greater than doc_stride"):
            SPEC.check_parameters({"max_seq_len": 64, "doc_stride": shared})
