"""Words and phrases are found whole, in any case and spelling, in one pass."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.guards import words
from models.guards.reading import NOTHING_CAUGHT, Span
from models.guards.words import WordsRule, check_words


def found(text: str, *listed: str) -> list[str]:
    return [text[span.start : span.end] for span in WordsRule(listed).read(text).spans]


@pytest.mark.parametrize(
    ("text", "listed", "matches"),
    [
        ("Bad, BAD: bad!", ["bad"], ["Bad", "BAD", "bad"]),
        ("badly unbad bad1 1bad", ["bad"], []),
        ("snake_bad_case", ["bad"], ["bad"]),
        ("Straße STRASSE strasse", ["straße"], ["Straße", "STRASSE", "strasse"]),
        ("ΣΟΦΟΣ σοφος", ["σοφός", "σοφος"], ["ΣΟΦΟΣ", "σοφος"]),
        ("a\u00a0Bad \t\nword. bad-word badword", ["bad word"], ["Bad \t\nword"]),
        ("C++ c# c", ["c++"], ["C++"]),
        ("don't do", ["DON'T"], ["don't"]),
        ("cafe\u0301 caf\u00e9 cafe", ["café"], ["cafe\u0301", "café"]),
        (
            "\uff42\uff41\uff44 \U0001d41b\U0001d41a\U0001d41d",
            ["bad"],
            ["\uff42\uff41\uff44", "\U0001d41b\U0001d41a\U0001d41d"],
        ),
        ("b\u200ba\u00add and \u200bbad\u200b", ["bad"], ["b\u200ba\u00add", "bad"]),
        ("k\u0336i\u0336l\u0334l\u0338 it", ["kill"], ["k\u0336i\u0336l\u0334l"]),
        ("k\u0131ll KILL", ["kill"], ["k\u0131ll", "KILL"]),
        ("a≠b =\u0338", ["≠"], ["≠", "="]),
        ("这里有炸弹吗", ["炸弹"], ["炸弹"]),
        ("😀😀 x", ["😀"], ["😀😀"]),
        ("वह हिन्दी है", ["हिन्दी", "हिन"], ["हिन्दी"]),
        ("كتاب جيد", ["كتاب"], ["كتاب"]),
        ("١٢٣ 123", ["123"], ["١٢٣", "123"]),
    ],
)
def test_whole_words_in_any_spelling(text: str, listed: list[str], matches: list[str]) -> None:
    assert found(text, *listed) == matches


def test_overlapping_phrases_are_one_span() -> None:
    assert found("a b c d", "a b", "b c", "d") == ["a b c", "d"]


def test_two_words_in_one_character_are_one_span() -> None:
    assert found("x \u00bd\ufdfa", "صلى", "الله") == ["\ufdfa"]  # a ligature of four words


def test_a_word_within_a_phrase_that_goes_on_otherwise_is_found() -> None:
    assert found("x a b d", "a b c", "b") == ["b"]


def test_a_text_without_a_word_shares_one_reading() -> None:
    assert WordsRule(["bad"]).read("all is well") is NOTHING_CAUGHT
    assert WordsRule(["bad word"]).read("bad weather") is NOTHING_CAUGHT


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "é", "😀", " ", "  ", "-", "ß"]), max_size=14).map("".join),
    st.lists(st.sampled_from(["a", "b", "a b", "b a b", "é", "a-b", "😀", "ss", "- "]), min_size=1, unique=True),
)
def test_all_phrases_are_found_where_a_search_for_each_finds_them(text: str, listed: list[str]) -> None:
    places = set()
    for word in listed:
        pattern = re.escape(word.strip().replace("ss", "ß")).replace(r"\ ", r"\s+")
        sides = (r"(?<!\w)" if word[0].isalnum() else "", r"(?!\w)" if word.strip()[-1].isalnum() else "")
        for match in re.finditer(rf"(?={sides[0]}({pattern}){sides[1]})", text):
            places.update(range(*match.span(1)))

    assert {index for span in WordsRule(listed).read(text).spans for index in range(span.start, span.end)} == places


def test_long_texts_are_read_like_short_ones() -> None:
    text = "well " * words.LONG_TEXT_CHARACTERS + "bad"

    assert found(text, "bad") == ["bad"]
    assert WordsRule(["worse"]).read(text) is NOTHING_CAUGHT


@pytest.mark.parametrize("text", ["a " * 300_000, "a a b " * 100_000, "$" * 300_000, "炸" * 300_000])
def test_thousands_of_phrases_with_one_start_take_one_pass(text: str) -> None:
    listed = ["a " * count + "b" for count in range(1, 90)] + [f"a word{index}" for index in range(5_000)] + ["$ $ b"]

    assert WordsRule(listed).read(text).caught == ("b" in text)


def test_the_rest_of_a_text_with_too_many_words_is_one_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.guards.spans.MAX_SPANS", 2)
    monkeypatch.setattr("models.guards.spans.limit_places.__defaults__", (2,))

    assert WordsRule(["x"]).read("x y x y x y").spans == (Span(0, 1), Span(4, 11))


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (["good", " \u200b\n"], "blank word, the one at place 2"),
        (["good", "b" * 201], "over 200 characters, the one at place 2"),
        (["bad", "good", "BAD"], "at places 1 and 3"),
        (["a  b", "A b"], "at places 1 and 2"),
        (["b" * 200 + str(index) for index in range(2_600)], "in all"),
    ],
)
def test_wrong_words_are_named_by_their_place(listed: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        check_words(listed)

    assert "good" not in str(error.value)
