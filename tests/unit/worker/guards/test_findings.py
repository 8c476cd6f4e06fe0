"""What guards make of a model's findings: the highest score of their labels, and whole words as spans."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.guards.definition import Guard
from models.guards.reading import NOTHING_CAUGHT, Reading, Span
from worker.guards import findings
from worker.guards.findings import Finding


def guard(**fields: Any) -> Guard:
    return Guard(**{"on": "input", "action": "flag", "pipeline": "checker", **fields})


class TestLabels:
    FOUND = (Finding("SAFE", 0.9), Finding("BAD", 0.4), Finding("WORSE", 0.7))

    @pytest.mark.parametrize(
        ("fields", "reading"),
        [
            ({"label": "BAD"}, Reading(False, 0.4, "BAD")),
            ({"label": "BAD", "threshold": 0.4}, Reading(True, 0.4, "BAD")),
            ({"label": ("BAD", "WORSE")}, Reading(True, 0.7, "WORSE")),
            ({"label": ("BAD", "WORSE"), "threshold": 0.71}, Reading(False, 0.7, "WORSE")),
            ({"label": "OTHER", "threshold": 0}, NOTHING_CAUGHT),
        ],
    )
    def test_the_highest_score_counts(self, fields: dict[str, Any], reading: Reading) -> None:
        assert findings.label_reading(guard(**fields), self.FOUND) == reading

    def test_each_label_keeps_the_highest_score_of_all_windows(self) -> None:
        windows = [[("BAD", 0.1), ("SAFE", 0.9)], [("BAD", 0.8), ("SAFE", 0.2)], [("BAD", 0.3), ("SAFE", 0.7)]]

        found: list[Finding] = []
        for window in windows:
            output = [{"label": label, "score": score} for label, score in window]
            found = findings.highest_scores(found, findings.label_scores(output))

        assert {finding.label: finding.score for finding in found} == {"BAD": 0.8, "SAFE": 0.9}

    def test_a_blank_text_is_caught_by_nothing(self) -> None:
        assert findings.label_reading(guard(label="BAD", threshold=0), ()) == NOTHING_CAUGHT


class TestSpans:
    FOUND = (Finding("PER", 0.9, 7, 12), Finding("LOC", 0.6, 20, 26), Finding("PER", 0.3, 30, 33))

    @pytest.mark.parametrize(
        ("fields", "spans"),
        [
            ({}, [(7, 12, "PER"), (20, 26, "LOC")]),
            ({"label": "PER"}, [(7, 12, "PER")]),
            ({"label": ("LOC", "PER"), "threshold": 0.3}, [(7, 12, "PER"), (20, 26, "LOC"), (30, 33, "PER")]),
            ({"label": "LOC", "threshold": 0.61}, []),
        ],
    )
    def test_entities_of_the_labels_with_a_sufficient_score(self, fields: dict[str, Any], spans: list[Any]) -> None:
        reading = findings.spans_reading(guard(**fields), self.FOUND)

        assert reading.spans == tuple(Span(*span) for span in spans)
        assert reading.caught is bool(spans)
        assert reading.score == (0.6 if fields.get("label") == "LOC" else 0.9)

    def test_an_entity_of_two_windows_is_one_span(self) -> None:
        found = (Finding("PER", 0.9, 5, 9), Finding("PER", 0.8, 5, 9), Finding("PER", 0.7, 0, 3))

        assert findings.spans_reading(guard(), found).spans == (Span(0, 3, "PER"), Span(5, 9, "PER"))


class TestWords:
    @pytest.mark.parametrize(
        ("text", "part", "word"),
        [
            ("ask Sarahson now", "Sarah", "Sarahson"),
            ("ask Sarahson now", "son", "Sarahson"),
            ("ask Sarahson now", "Sarahson", "Sarahson"),
            ("call 0171-5550 now", "555", "5550"),
            ("🙂Zoë🙂", "o", "Zoë"),
            ("Zoe\u0308!", "Zo", "Zoe\u0308"),
            ("我叫王小明你好", "王小明", "王小明"),
            ("Müller-Lüdenscheidt", "ller", "Müller"),
            ("a . b", ".", "."),
            ("x" * 300, "x", "x" * 101),
        ],
    )
    def test_a_part_of_a_word_becomes_the_word(self, text: str, part: str, word: str) -> None:
        start = text.index(part)

        first, last = findings.widen_to_words(text, start, start + len(part))

        assert text[first:last] == word

    @given(text=st.text(min_size=1), numbers=st.tuples(st.integers(0, 200), st.integers(0, 200)))
    def test_a_range_only_grows_and_stays_in_its_text(self, text: str, numbers: tuple[int, int]) -> None:
        start, end = sorted(number % (len(text) + 1) for number in numbers)
        if start == end:
            return

        first, last = findings.widen_to_words(text, start, end)

        assert 0 <= first <= start < end <= last <= len(text)

    def test_entities_without_places_are_no_findings(self) -> None:
        output = [
            {"entity": "B-PER", "score": 0.9, "index": 1, "start": None, "end": None},
            {"entity": "B-PER", "score": 0.9, "index": 2, "start": 3, "end": 3},
            {"entity": "B-PER", "score": 0.7, "index": 4, "start": 4, "end": 6},
            {"entity": "B-PER", "score": 0.8, "index": 6, "start": 0, "end": 2},
        ]

        assert list(findings.entities(output, "Anna  ")) == [Finding("PER", 0.8, 0, 4)]

    def test_blanks_around_an_entity_are_not_part_of_it(self) -> None:
        output = [{"entity": "PER", "score": 0.9, "index": 1, "start": 3, "end": 9}]

        assert list(findings.entities(output, "ask Anna  ")) == [Finding("PER", 0.9, 4, 8)]

    @pytest.mark.parametrize(
        ("tags", "expected"),
        [
            ([("B-PER", 0.2), ("I-PER", 0.9), ("I-PER", 0.3)], [("PER", 0.9, 0, 5)]),
            ([("PER", 0.6), ("PER", 0.5)], [("PER", 0.6, 0, 3)]),
            ([("B-PER", 0.9), ("B-PER", 0.4)], [("PER", 0.9, 0, 1), ("PER", 0.4, 2, 3)]),
            ([("B-PER", 0.9), ("I-LOC", 0.4)], [("PER", 0.9, 0, 1), ("LOC", 0.4, 2, 3)]),
            ([("B-PER", 0.4), ("E-PER", 0.8), ("S-PER", 0.3)], [("PER", 0.8, 0, 3), ("PER", 0.3, 4, 5)]),
            ([("I-PER", 0.4), None, ("I-PER", 0.8)], [("PER", 0.4, 0, 1), ("PER", 0.8, 4, 5)]),
            ([], []),
        ],
    )
    def test_an_entity_has_the_highest_score_of_its_tokens(self, tags: list[Any], expected: list[Any]) -> None:
        text = "a b c d e"
        output = [
            {"entity": tag[0], "score": tag[1], "index": place + 1, "start": 2 * place, "end": 2 * place + 1}
            for place, tag in enumerate(tags)
            if tag
        ]

        assert list(findings.entities(output, text)) == [Finding(*item) for item in expected]
