"""The parameter `output_schema` is kept as text, and what can't be followed is refused without a word of it."""

import json
import re
from typing import Any

import pytest

from models.errors import InvalidParameters
from models.tasks.generation import output_schema
from models.tasks.text_generation import TEXT_GENERATION


def check(schema: Any, **parameters: Any) -> Any:
    return TEXT_GENERATION.check_parameters({**parameters, "output_schema": schema})["output_schema"]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth // 2):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "object", "properties": {"z": {}, "a": {}}}, '{"type":"object","properties":{"z":{},"a":{}}}'),
        (' {"const": "größe"}\n', '{"const":"größe"}'),
        ("(yes|no)", "(yes|no)"),
        ("ü{2}", "ü{2}"),
        ({}, "{}"),
        (None, None),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, '{"oneOf":[{"type":"string"},{"type":"null"}]}'),
    ],
)
def test_it_becomes_a_text(schema: Any, text: str | None) -> None:
    assert check(schema) == text
    assert check(text) == text


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("", "must not be empty"),
        (5, "must be text or a JSON object"),
        ([{}], "must be text or a JSON object"),
        ("{secret", "begins with a brace, as a JSON schema does, but is no JSON"),
        ("x" * 65_537, "has 65,537 bytes; at most 65,536 are taken"),
        ({"const": "\ud800"}, "half a surrogate pair"),
        ({"const": "a\0"}, "NUL character"),
        ("a\0", "NUL character"),
        ({"const": {"secret"}}, "must be those of JSON"),
        ({"maximum": float("nan")}, "must be those of JSON"),
        (nested(80), "nested at most 64 deep"),
        ({"x-guidance": {"lenient": True}, "uniqueItems": True}, "must not have the key x-guidance"),
        ({"type": "array", "uniqueItems": True}, "these keywords are not supported: uniqueItems"),
        ({"not": {}, "if": {}}, "these keywords are not supported: "),
        ({"type": "number", "maximum": 1e308}, "a bound of a number is too large or too small"),
        ({"type": "number", "minimum": 1e-320}, "a bound of a number or a pattern is too long"),
        ({"type": "secret"}, "a type that JSON does not know"),
        ({"format": "secret"}, "a format that is not supported"),
        ({"$ref": "#/$defs/secret"}, "a $ref names nothing in it"),
        ({"$ref": "https://example.org/secret"}, "none is fetched"),
        ({"allOf": [{"const": "secret"}, {"const": "other"}]}, "no text satisfies it"),
        ({"oneOf": [{"type": "string"}, {"minLength": 3}]}, "tell them apart by a required const, or use anyOf"),
        ({"pattern": "(secret"}, "a regular expression can't be read: unclosed group"),
        ("(secret", "a regular expression can't be read: unclosed group"),
        ("secret(?=a)", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(secret)\1", "backreferences are not supported"),
        (r"\bsecret", "look-around"),
        ({"properties": "secret"}, "it is no valid schema"),
    ],
)
def test_one_that_cannot_be_followed_is_refused(schema: Any, problem: str) -> None:
    with pytest.raises(InvalidParameters, match=re.escape(problem)) as error:
        check(schema)

    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [({"num_beams": 2, "do_sample": False}, "takes no beams"), ({"return_full_text": True}, "the new text alone")],
)
def test_parameters_that_contradict_it_are_refused(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidParameters, match=problem):
        check("a", **parameters)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"\d+[\d.]", "[0-9]+[0-9.]"),
        (r"[^\d]\W\D", r"[^\p{Nd}][[^\p{L}\p{M}\p{N}_]][[^\p{Nd}]]"),
        (r"\\d[\]\w]", r"\\d[\]0-9A-Za-z_]"),
        (r"[]\d][^]\s]", r"[]0-9][^]\s\x1c-\x1f]"),
        (r"[a[^\d]\d]\d", r"[a[^\p{Nd}]0-9][0-9]"),
    ],
)
def test_classes_of_regular_expressions_hold_what_all_libraries_have_in_them(pattern: str, expected: str) -> None:
    assert output_schema.with_common_classes(pattern) == expected


def test_a_schema_of_the_greatest_size_is_taken() -> None:
    schema = {"enum": ["x" * (output_schema.MAX_SCHEMA_BYTES - 13)]}

    assert len(check(schema)) == output_schema.MAX_SCHEMA_BYTES
    assert json.loads(check(schema)) == schema
