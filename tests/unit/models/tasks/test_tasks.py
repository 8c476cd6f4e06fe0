from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError, UsageError
from models.tasks.fields import MAX_TEXT_CHARACTERS

SPEC = tasks.find_spec("sentiment-analysis")


def code(raw: object) -> str:
    with pytest.raises(JobError) as caught:
        SPEC.normalise(raw)
    return caught.value.code


class TestInputs:
    def test_a_bare_text_is_the_first_field(self) -> None:
        assert SPEC.normalise("good") == {"text": "good"}

    def test_only_the_tasks_fields_are_kept(self) -> None:
        assert SPEC.normalise({"text": "a", "text_pair": "b", "stars": 5}) == {"text": "a", "text_pair": "b"}
        assert SPEC.normalise({"text": "a", "text_pair": None}) == {"text": "a"}

    @pytest.mark.parametrize("text", ["\U0001f600", "a\u2028b", " a ", "x" * MAX_TEXT_CHARACTERS, "a\tb\n"])
    def test_unusual_text_is_kept_as_it_is(self, text: str) -> None:
        assert SPEC.normalise(text) == {"text": text}

    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            (None, "not_text"),
            (3, "not_text"),
            ([], "not_text"),
            (["good"], "not_text"),
            ({"text": 3}, "not_text"),
            ({"text": True}, "not_text"),
            ({"text": ["good"]}, "not_text"),
            ({"text": "good", "text_pair": 3}, "not_text"),
            ({}, "missing_field"),
            ({"text": None}, "missing_field"),
            ("", "empty_text"),
            (" \n\t\u3000", "empty_text"),
            ({"text": "good", "text_pair": ""}, "empty_text"),
            ("a\0b", "invalid_text"),
            ("a\ud800b", "invalid_text"),
            ("x" * (MAX_TEXT_CHARACTERS + 1), "text_too_long"),
        ],
    )
    def test_each_kind_of_bad_input_has_its_code(self, raw: object, expected: str) -> None:
        assert code(raw) == expected

    def test_no_sentence_quotes_the_input(self) -> None:
        for raw in ("canary\0", "canary\ud800", ["canary"], {"text": {"canary": 1}}):
            with pytest.raises(JobError) as caught:
                SPEC.normalise(raw)
            assert "canary" not in str(caught.value)


class TestParameters:
    def test_only_what_is_given_is_kept(self) -> None:
        assert SPEC.check_parameters({}) == {}
        assert SPEC.check_parameters({"top_k": None, "function_to_apply": "softmax"}) == {
            "top_k": None,
            "function_to_apply": "softmax",
        }

    @pytest.mark.parametrize(
        "parameters",
        [
            {"top_k": 0},
            {"top_k": -1},
            {"top_k": "2"},
            {"top_k": 1.5},
            {"top_k": True},
            {"top_k": 10_001},
            {"function_to_apply": "exp"},
            {"custom_generate": "x"},
            {"chat_template": "x"},
            {"trust_remote_code": True},
        ],
    )
    def test_anything_else_is_refused_by_name(self, parameters: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameters, match=f"{next(iter(parameters))!r}"):
            SPEC.check_parameters(parameters)

    def test_an_unknown_one_is_told_which_there_are(self) -> None:
        with pytest.raises(InvalidParameters, match="it takes: top_k, function_to_apply"):
            SPEC.check_parameters({"labels": 1})


class TestTasks:
    def test_aliases_are_found(self) -> None:
        assert tasks.find_spec("text-classification") is SPEC

    def test_an_unknown_one_is_told_which_there_are(self) -> None:
        with pytest.raises(UsageError, match="there is no task 'nope'; Batchmill knows: sentiment-analysis"):
            tasks.find_spec("nope")

    def test_names_and_aliases_are_unique(self) -> None:
        names = [name for spec in tasks.TASKS.values() for name in (spec.name, *spec.aliases)]

        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("name", tasks.TASKS)
    def test_an_example_is_an_input(self, name: str) -> None:
        spec = tasks.find_spec(name)

        assert spec.normalise(spec.example_input) == spec.example_input
