"""Inputs are shown by field, and an input that can't be read as it is."""

import json
from typing import Any

import pytest

from producer.server.pages.outputs.inputs import Field, pretty, read_input


def fields(document: Any) -> tuple[Field, ...]:
    text = json.dumps(document)
    return read_input(text, len(text)).fields


def test_each_field_is_a_text() -> None:
    assert fields({"text": "a", "labels": ["b", "c"], "n": 4, "o": {"p": None}}) == (
        Field("text", "a"),
        Field("labels", "b\nc"),
        Field("n", "4"),
        Field("o", '{"p": null}'),
    )


def test_a_conversation_has_a_line_for_each_message() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]

    assert fields({"messages": messages}) == (Field("messages", "user: hi\nassistant: hello"),)


@pytest.mark.parametrize("document", ["text", 5, None, [1, 2]])
def test_an_input_that_is_no_object_has_one_field_without_a_name(document: Any) -> None:
    assert [field.name for field in fields(document)] == [""]


def test_a_long_text_is_shown_up_to_the_cut() -> None:
    text = json.dumps({"text": "x" * 1_000})

    assert read_input(text[:100], len(text)).fields == (Field("text", "x" * (100 - len('{"text": "'))),)


def test_json_is_written_on_several_lines() -> None:
    assert pretty('{"a":[1]}') == '{\n  "a": [\n    1\n  ]\n}'
    assert pretty('{"a":[1') == '{"a":[1'
