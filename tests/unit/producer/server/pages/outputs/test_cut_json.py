"""JSON that was cut anywhere is read as far as it goes, or refused, and never raises anything else."""

import json

import pytest

from producer.server.pages.outputs.cut_json import Unreadable, read_cut_json, read_json

DOCUMENT = {"text": 'a "quoted" \\ text 😀', "list": [1, {"b": None}, "c"], "end": True}


def test_a_whole_document_is_read() -> None:
    assert read_cut_json(json.dumps(DOCUMENT)) == DOCUMENT


def test_a_text_is_kept_up_to_the_cut() -> None:
    assert read_cut_json('{"id": 1, "text": "the beginning') == {"id": 1, "text": "the beginning"}


@pytest.mark.parametrize("tail", ["\\", "\\u", "\\u00e"])
def test_half_an_escape_is_dropped(tail: str) -> None:
    assert read_cut_json('["abc' + tail) == ["abc"]


def test_whole_elements_of_a_list_are_kept() -> None:
    assert read_cut_json('[{"word": "a", "n": 1}, {"word": "b", "n"') == [{"word": "a", "n": 1}, {"word": "b"}]


@pytest.mark.parametrize("is_ascii", [True, False])
def test_every_cut_is_read_or_refused(is_ascii: bool) -> None:
    text = json.dumps(DOCUMENT, ensure_ascii=is_ascii)

    for length in range(len(text)):
        try:
            read_cut_json(text[:length])
        except Unreadable:
            continue


@pytest.mark.parametrize("text", ["", "nothing", "[" * 100_000, '{"a": ' * 50_000, "9" * 5_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(Unreadable):
        read_json(text)
