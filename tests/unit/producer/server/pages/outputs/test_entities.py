"""Offsets of entities are untrusted: they mark the characters that they name, or nothing."""

from typing import Any

import pytest

from producer.server.pages.outputs import entities
from producer.server.pages.outputs.entities import Piece


def found(start: Any, end: Any, label: str = "PER") -> dict[str, Any]:
    return {"entity_group": label, "start": start, "end": end}


def test_a_place_is_marked_by_characters_and_not_by_bytes() -> None:
    text = "😀😀 Sarah lives"

    pieces = entities.highlight(text, [found(3, 8)])

    assert pieces == (Piece("😀😀 "), Piece("Sarah", "PER"), Piece(" lives"))


def test_places_are_in_the_order_of_the_text() -> None:
    pieces = entities.highlight("abcdef", [found(4, 6, "B"), found(0, 2, "A")])

    assert pieces == (Piece("ab", "A"), Piece("cd"), Piece("ef", "B"))


@pytest.mark.parametrize(
    "place", [(2, 1), (-3, 2), (1, 99), (None, 2), (1.5, 2), (True, 2), ("0", "2"), (3, 3), (10**30, 10**31)]
)
def test_a_place_that_is_none_is_left_out(place: tuple[Any, Any]) -> None:
    pieces = entities.highlight("abcdef", [found(*place), found(0, 1, "A")])

    assert pieces == (Piece("a", "A"), Piece("bcdef"))


def test_of_two_that_overlap_the_first_is_marked() -> None:
    assert entities.highlight("abcd", [found(0, 3, "A"), found(2, 4, "B")]) == (Piece("abc", "A"), Piece("d"))


@pytest.mark.parametrize("text", [None, 5, ["a"], {"a": 1}])
def test_a_text_that_is_none_has_no_pieces(text: Any) -> None:
    assert entities.highlight(text, [found(0, 1)]) == ()
    assert entities.around(text, found(0, 1), 10) == ()


def test_a_long_text_and_many_entities_are_bounded() -> None:
    many = [found(2 * place, 2 * place + 1) for place in range(10_000)]

    pieces = entities.highlight("x" * 1_000_000, many)

    assert len(pieces) <= 2 * entities.MAX_ENTITIES + 2
    assert sum(len(piece.text) for piece in pieces) <= entities.MAX_CHARACTERS + 1
    assert pieces[-1] == Piece("…")


def test_an_answer_stands_in_its_context() -> None:
    text = "a" * 300 + "the answer" + "b" * 300

    pieces = entities.around(text, {"start": 300, "end": 310}, 5)

    assert pieces == (Piece("…aaaaa"), Piece("the answer", "answer"), Piece("bbbbb…"))
