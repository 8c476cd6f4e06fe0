"""All rules of a stage read a job's texts in order, until one blocks the row."""

import pytest

from models.errors import JobError
from models.guards import patterns
from models.guards.definition import Guard
from models.guards.reading import NOTHING_CAUGHT
from models.guards.rules import GuardRules, build_rule


def guard(**options: object) -> Guard:
    return Guard.model_validate({"on": "input", "action": "flag", **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pattern": "b+"}, "abba"),
        ({"words": ["bad"]}, "very Bad"),
        ({"pii": ["email"]}, "a@b.example"),
        ({"max_characters": 3}, "four"),
    ],
)
def test_every_kind_of_rule_catches(options: dict[str, object], text: str) -> None:
    rule = build_rule(guard(**options))

    assert rule.read(text).caught
    assert rule.read("ok") is NOTHING_CAUGHT


def test_a_text_of_just_the_most_characters_passes() -> None:
    rule = build_rule(guard(max_characters=3))

    assert not rule.read("😀" * 3).caught
    assert rule.read("😀" * 4).spans == ()


def test_a_guard_with_a_model_has_no_rule() -> None:
    with pytest.raises(ValueError, match="no rule"):
        build_rule(guard(pipeline="p", label="L"))


def test_rules_of_a_stage_read_all_texts() -> None:
    guards = {
        "words": guard(words=["x"]),
        "model": guard(pipeline="p", label="L"),
        "length": guard(max_characters=2),
        "after": guard(on="output", pattern="x"),
    }

    readings, error = GuardRules(guards, "input").read(["x", "four"])

    assert error is None

    assert list(readings) == ["words", "length"]
    assert [reading.caught for reading in readings["words"]] == [True, False]
    assert [reading.caught for reading in readings["length"]] == [False, True]


def test_rules_after_one_that_blocks_do_not_run() -> None:
    guards = {"flag": guard(pattern="x"), "fail": guard(action="fail", pattern="y"), "late": guard(pattern="x")}
    rules = GuardRules(guards, "input")

    assert list(rules.read(["x"]).readings) == ["flag", "fail", "late"]
    assert list(rules.read(["x", "y"]).readings) == ["flag", "fail"]


def test_a_rule_that_takes_too_long_fails_the_row_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "MAX_SECONDS", 0.0)
    guards = {"before": guard(words=["x"]), "slow": guard(pattern="a.*b|a"), "after": guard(words=["x"])}

    readings, error = GuardRules(guards, "input").read(["x", "a" * 10_000])

    assert isinstance(error, JobError)
    assert error.code == "guard_failed"
    assert str(error).startswith("guard slow takes more than")
    assert "aa" not in str(error)
    assert [reading.caught for reading in readings["before"]] == [True, False], "what was read before counts"
    assert list(readings) == ["before"]


def test_a_stage_without_rules_is_false() -> None:
    guards = {"rule": guard(pattern="x"), "model": guard(pipeline="p", on="output")}

    assert bool(GuardRules(guards, "input"))
    assert not GuardRules(guards, "output")
