"""Patterns find every match at its characters, in linear time; those that could not are refused in plain words."""

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from models.guards import patterns
from models.guards.patterns import PatternRule, PatternTimeout, compile_pattern
from models.guards.reading import NOTHING_CAUGHT, Reading, Span

MILLION = 1_000_000


def read(pattern: str, text: str) -> Reading:
    return PatternRule(compile_pattern(pattern)).read(text)


def found(pattern: str, text: str) -> list[str]:
    return [text[span.start : span.end] for span in read(pattern, text).spans]


def test_all_matches_are_spans() -> None:
    text = "API_KEY = abc and api-key: d"

    assert found(r"(?i)api[_-]?key\s*[:=]\s*\S+", text) == ["API_KEY = abc", "api-key: d"]


def test_a_text_without_a_match_shares_one_reading() -> None:
    assert read("x", "abc") is NOTHING_CAUGHT


def test_matches_that_touch_are_one_span() -> None:
    assert read("[0-9]", "a123b4").spans == (Span(1, 4), Span(5, 6))


def test_empty_matches_count_for_nothing() -> None:
    rule = PatternRule(re2.compile(rb"\bx*"))

    assert rule.read("ab x").spans == (Span(3, 4),)
    assert not rule.read("ab").caught


@given(st.text(alphabet="a1😀é\u0301ש\n\0", max_size=30))
def test_offsets_are_characters_of_the_text(text: str) -> None:
    expected = [Span(*match.span()) for match in re.finditer("[1é😀]+", text)]

    assert list(read("[1é😀]+", text).spans) == expected


def test_half_a_surrogate_pair_moves_no_offset() -> None:
    assert read("x", "\ud800é\udfffx").spans == (Span(3, 4),)


def test_one_match_is_enough_where_the_row_is_blocked() -> None:
    rule = PatternRule(compile_pattern("[0-9]+"), first_only=True)

    assert rule.read("a 12 b 34").caught
    assert len(rule.read("a 12 b 34").spans) == 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(?:x+x+)+y", "x" * MILLION),
        ("^(a+)+$", "a" * MILLION + "b"),
        (r"(\w+\s?)*:", "word " * (MILLION // 5)),
        ("(?:a?){100}a{100}b", "a" * MILLION),
        ("[ab]*a[ab]{20}c", "ab" * (MILLION // 2)),
        (r"(?s)BEGIN.*END", "BEGIN" * (MILLION // 5)),
    ],
)
def test_a_million_characters_that_break_other_engines_are_read(pattern: str, text: str) -> None:
    assert read(pattern, text) is NOTHING_CAUGHT


def test_short_matches_after_long_searches_run_into_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.05)

    with pytest.raises(PatternTimeout):
        read("a.*b|a", "a" * MILLION)


def test_the_rest_of_a_text_with_too_many_matches_is_one_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_SPANS", 3)

    assert read("x", "x x é x x ").spans == (Span(0, 1), Span(2, 3), Span(6, 10))


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a(?=b)", "look-ahead is not supported"),
        ("a(?!b)", "look-ahead is not supported"),
        ("(?<=a)b", "look-behind is not supported"),
        ("(?<!a)b", "look-behind is not supported"),
        (r"(a)\1", "back-references are not supported"),
        ("(?P<n>a)(?P=n)", "back-references are not supported"),
        ("(?>a)", "atomic groups are not supported"),
        ("a++", "bad repetition operator"),
        ("[", "missing ]"),
        ("(", "missing )"),
        ("a{1001}", "invalid repetition size"),
        ("a*", "matches the empty text"),
        ("", "matches the empty text"),
        ("a|^", "matches the empty text"),
        (r"\b", "places without characters"),
        (r"\b|foo", "places without characters"),
        (r"foo|\b", "places without characters"),
        (r"(?m)\b$", "places without characters"),
        (r"[0-9]*\b", "places without characters"),
        (r"a{900}b{900}", "too many repetitions"),
        (r"(?:.{1,30}){1,30}x", "too many repetitions"),
        (r"[\pL\pN]{0,390}x{3}", "repetitions are too many"),
        (r"\C", "half a character"),
        ("\ud800", "half a surrogate pair"),
    ],
)
def test_patterns_that_can_not_be_used_are_refused(
    pattern: str, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        compile_pattern(pattern)

    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i)(ignore|disregard)\s+(all\s+)?(previous|prior)\s+instructions",
        r"\b[A-Z0-9._%+-]{1,64}@[A-Z0-9.-]{1,255}\.[A-Z]{2,63}\b",
        r"\bfoo\b",
        r"(?m)^foo$",
        r"sk-[A-Za-z0-9]{20,128}",
        r"(?s)password.{0,100}secret",
        r"\pL{1,20}\s\p{Greek}+",
        "|".join(f"name{index}" for index in range(200)),
    ],
)
def test_usual_patterns_are_taken(pattern: str) -> None:
    assert compile_pattern(pattern) is not None
