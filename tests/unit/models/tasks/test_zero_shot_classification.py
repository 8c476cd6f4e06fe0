from typing import Any

import pytest

from models import tasks
from models.errors import InvalidParameters, JobError
from models.tasks.zero_shot_classification import MAX_LABELS

SPEC = tasks.find_spec("zero-shot-classification")
MANY = [f"label {number}" for number in range(MAX_LABELS + 1)]


def code(raw: object, **parameters: Any) -> str:
    with pytest.raises(JobError) as caught:
        SPEC.normalise(raw, parameters)
    assert "canary" not in str(caught.value)
    return caught.value.code


class TestInputs:
    def test_labels_are_stored_as_a_list(self) -> None:
        stored = {"text": "a", "candidate_labels": ["b", "c d"]}

        assert SPEC.normalise({"text": "a", "candidate_labels": ["b", "c d"]}) == stored
        assert SPEC.normalise({"text": "a", "candidate_labels": ("b", "c d")}) == stored
        assert SPEC.normalise({"text": "a", "candidate_labels": " b,, c d ,"}) == stored
        assert SPEC.normalise({"text": "a", "candidate_labels": ' ["b", "c d"]'}) == stored
        assert SPEC.normalise({"text": "a", "candidate_labels": "[b, c]"})["candidate_labels"] == ["[b", "c]"]

    def test_a_bare_text_is_enough_where_the_batch_has_labels(self) -> None:
        assert SPEC.normalise("a", {"candidate_labels": ["b"]}) == {"text": "a"}
        assert SPEC.normalise({"text": "a", "candidate_labels": None}, {"candidate_labels": ["b"]}) == {"text": "a"}

    @pytest.mark.parametrize("raw", ["canary", {"text": "canary"}, {"text": "canary", "candidate_labels": None}])
    def test_labels_must_come_from_somewhere(self, raw: object) -> None:
        assert code(raw) == "no_labels"
        assert code(raw, candidate_labels=None) == "no_labels"

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            ([], "no_labels"),
            ("", "no_labels"),
            (" , ,", "no_labels"),
            (3, "not_text"),
            ({"canary": 1}, "not_text"),
            (["a", 3], "not_text"),
            (["a", None], "not_text"),
            (["a", ["canary"]], "not_text"),
            (["a", " "], "empty_label"),
            (["a", ""], "empty_label"),
            (["canary", "canary"], "repeated_label"),
            (["canary", " canary"], "repeated_label"),
            ("canary, canary", "repeated_label"),
            (MANY, "too_many_labels"),
            (["canary" * 200], "label_too_long"),
            (["canary\0"], "invalid_text"),
            (["canary\ud800"], "invalid_text"),
        ],
    )
    def test_each_kind_of_bad_labels_has_its_code(self, labels: object, expected: str) -> None:
        assert code({"text": "a", "candidate_labels": labels}) == expected
        assert code({"text": "a", "candidate_labels": labels}, candidate_labels=["b"]) == expected

    def test_as_many_labels_as_are_taken_are_taken(self) -> None:
        assert SPEC.normalise({"text": "a", "candidate_labels": MANY[1:]})["candidate_labels"] == MANY[1:]


class TestParameters:
    @pytest.mark.parametrize(
        ("parameters", "kept"),
        [
            ({}, {}),
            ({"candidate_labels": "a, b"}, {"candidate_labels": ["a", "b"]}),
            ({"candidate_labels": ["a, b"]}, {"candidate_labels": ["a, b"]}),
            ({"candidate_labels": None}, {"candidate_labels": None}),
            ({"hypothesis_template": "{{}} {}?"}, {"hypothesis_template": "{{}} {}?"}),
            ({"multi_label": True}, {"multi_label": True}),
        ],
    )
    def test_what_is_given_is_kept(self, parameters: dict[str, Any], kept: dict[str, Any]) -> None:
        assert SPEC.check_parameters(parameters) == kept
        assert SPEC.check_parameters(kept) == kept, "checked twice it stays the same"

    @pytest.mark.parametrize(
        "template",
        [
            "",
            "no braces",
            "{",
            "}",
            "{{}}",
            "{} {}",
            "{0}",
            "{name}",
            "{:>50000000}",
            "{0:>50000000}",
            "{!r}",
            "{0.__class__}",
            "{.__class__}",
            "{[0]}",
            "{:{}}",
            "{}\0",
            "{}\ud800",
            "x" * 1_000 + "{}",
            3,
            None,
        ],
    )
    def test_a_template_has_one_plain_place_for_the_label(self, template: object) -> None:
        with pytest.raises(InvalidParameters, match="hypothesis_template"):
            SPEC.check_parameters({"hypothesis_template": template})

    @pytest.mark.parametrize(
        "parameters",
        [
            {"candidate_labels": []},
            {"candidate_labels": ""},
            {"candidate_labels": ["a", "a"]},
            {"candidate_labels": ["a", " "]},
            {"candidate_labels": 3},
            {"candidate_labels": MANY},
            {"candidate_labels": ["\0"]},
            {"multi_label": "yes"},
            {"multi_label": 1},
            {"multi_class": True},
        ],
    )
    def test_anything_else_is_refused_by_name(self, parameters: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameters, match=next(iter(parameters))):
            SPEC.check_parameters(parameters)
