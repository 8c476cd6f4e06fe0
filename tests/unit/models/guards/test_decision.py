"""Readings of all guards become one decision: verdicts, merged redactions, or a blocked row."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.guards.decision import Decision, blocked_message, decide
from models.guards.definition import Guard
from models.guards.reading import NOTHING_CAUGHT, Reading, Span
from models.guards.verdict import Verdict


def rule(action: str = "redact", **options: object) -> Guard:
    return Guard.model_validate({"on": "input", "action": action, "pattern": "x", **options})


def caught(*spans: tuple[int, int] | tuple[int, int, str]) -> Reading:
    return Reading(caught=True, spans=tuple(Span(*span) for span in spans))


def redact(text: str, *spans: tuple[int, int]) -> str:
    decision = decide({"g": rule(replacement="#")}, {"g": [caught(*spans)]}, [text])
    assert decision.texts is not None
    return decision.texts[0]


def test_rows_that_pass_share_one_decision() -> None:
    guards = {"a": rule("fail"), "b": rule()}

    first, second = (decide(guards, {"a": [NOTHING_CAUGHT], "b": [NOTHING_CAUGHT]}, [text]) for text in ("one", "two"))

    assert first is second
    assert first == Decision(verdicts=(Verdict("a", "input", "pass"), Verdict("b", "input", "pass")))


def test_passing_guards_name_their_models() -> None:
    guards = {"m": Guard(on="input", action="fail", pipeline="p", label="BAD")}
    readings = {"m": [Reading(caught=False, score=0.25, label="BAD"), Reading(caught=False, score=0.5, label="BAD")]}

    decision = decide(guards, readings, ["one", "two"], {"m": ("org/model", "abc")})

    assert decision.verdicts == (Verdict("m", "input", "pass", 0.5, "BAD", 0, "org/model", "abc"),)
    assert decision.texts is None
    assert decision.blocked_by is None


@pytest.mark.parametrize("reading", [NOTHING_CAUGHT, caught((0, 1))])
def test_verdicts_name_the_definitions_of_their_guards(reading: Reading) -> None:
    decision = decide({"g": rule()}, {"g": [reading]}, ["x"], definitions={"g": "5d0be7f1c2a4"})

    assert decision.verdicts[0].definition == "5d0be7f1c2a4"


def test_guards_that_did_not_run_have_no_verdict() -> None:
    guards = {"a": rule("fail"), "b": rule()}

    decision = decide(guards, {"a": [caught((0, 1))]}, ["x"])

    assert [verdict.guard for verdict in decision.verdicts] == ["a"]


def test_the_first_guard_that_ran_and_blocks_is_named() -> None:
    guards = {"model": rule("fail"), "rule": rule("fail"), "flag": rule("flag")}
    readings = {"flag": [caught((0, 1))], "rule": [caught((0, 1))], "model": [caught((0, 1))]}

    decision = decide(guards, readings, ["x"])

    assert decision.blocked_by is not None
    assert decision.blocked_by.guard == "rule"
    assert [verdict.guard for verdict in decision.verdicts] == ["model", "rule", "flag"]


def test_flags_change_nothing() -> None:
    decision = decide({"g": rule("flag")}, {"g": [caught((0, 1))]}, ["x"])

    assert decision == Decision(verdicts=(Verdict("g", "input", "flag", spans=1),))


def test_a_blocked_input_is_redacted_too() -> None:
    guards = {"pii": rule(keep_original=True), "injection": rule("fail")}

    decision = decide(guards, {"pii": [caught((0, 1))], "injection": [caught((2, 3))]}, ["x y"])

    assert decision.texts == ("[REDACTED] y",)
    assert decision.keep_original
    assert decision.blocked_by is not None


def test_original_is_not_kept_if_the_guard_that_keeps_it_caught_nothing() -> None:
    guards = {"a": rule(keep_original=True), "b": rule()}

    assert not decide(guards, {"a": [NOTHING_CAUGHT], "b": [caught((0, 1))]}, ["x"]).keep_original


def test_original_is_kept_only_if_every_guard_that_redacts_keeps_it() -> None:
    keeping, other, found = rule(keep_original=True), rule(), {"a": [caught((0, 1))], "b": [caught((2, 3))]}

    assert not decide({"a": keeping, "b": other}, found, ["x y"]).keep_original
    assert not decide({"a": other, "b": keeping}, found, ["x y"]).keep_original
    assert decide({"a": keeping, "b": keeping}, found, ["x y"]).keep_original
    assert not decide({"a": keeping, "b": rule("flag")}, {"b": [caught((0, 1))]}, ["x"]).keep_original


def test_spans_of_several_guards_that_touch_become_one_with_the_replacement_of_the_first() -> None:
    guards = {"a": rule(replacement="<{label}>"), "b": rule(replacement="#")}
    readings = {"a": [caught((2, 4, "PER"), (9, 10))], "b": [caught((0, 1), (4, 6))]}

    decision = decide(guards, readings, ["0123456789"])

    assert decision.texts == ("#1<PER>678<REDACTED>",)


def test_at_the_same_place_the_first_guard_of_the_pipeline_replaces() -> None:
    guards = {"a": rule(replacement="A"), "b": rule(replacement="B")}

    assert decide(guards, {"b": [caught((0, 1))], "a": [caught((0, 1))]}, ["x"]).texts == ("A",)


def test_texts_are_redacted_one_by_one() -> None:
    readings = {"g": [NOTHING_CAUGHT, caught((0, 1)), NOTHING_CAUGHT]}

    assert decide({"g": rule(replacement="#")}, readings, ["x", "x", "x"]).texts == ("x", "#", "x")


def test_a_guard_that_knows_no_places_redacts_the_whole_text() -> None:
    decision = decide({"g": rule()}, {"g": [Reading(caught=True, label="TOXIC"), NOTHING_CAUGHT]}, ["bad", "good"])

    assert decision.texts == ("[REDACTED]", "good")


def test_spans_outside_of_the_text_are_cut() -> None:
    assert redact("abc", (-3, 1), (2, 99), (50, 60)) == "#b#"


@pytest.mark.parametrize(
    ("text", "spans", "redacted"),
    [
        ("a😀b", [(1, 2)], "a#b"),
        ("e\u0301tude", [(0, 2)], "#tude"),  # a letter and its accent
        ("👩\u200d👩\u200d👧 x", [(0, 5)], "# x"),
        ("שלום עולם", [(5, 9)], "שלום #"),
    ],
)
def test_offsets_are_characters(text: str, spans: list[tuple[int, int]], redacted: str) -> None:
    assert redact(text, *spans) == redacted


@given(
    st.text(alphabet="ab😀e\u0301ש", max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=8),
)
def test_merged_spans_equal_a_mask_over_the_characters(text: str, spans: Sequence[tuple[int, int]]) -> None:
    mask = [any(start <= index < end for start, end in spans) for index in range(len(text))]
    if not any(mask):
        mask = [True] * len(text)  # what has no place is everywhere
    expected = "".join(
        ("" if index and mask[index - 1] else "#") if masked else text[index] for index, masked in enumerate(mask)
    )

    assert redact(text, *spans) == (expected or "#")


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (
            Verdict("injection", "input", "fail", 0.978, "INJECTION"),
            "guard injection blocked this input (INJECTION 0.98)",
        ),
        (Verdict("secrets", "output", "fail", spans=2), "guard secrets blocked this output"),
        (Verdict("pii", "input", "fail", label="EMAIL"), "guard pii blocked this input (EMAIL)"),
    ],
)
def test_messages_name_the_guard_and_not_the_text(verdict: Verdict, message: str) -> None:
    assert blocked_message(verdict) == message
