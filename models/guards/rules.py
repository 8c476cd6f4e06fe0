"""Rules: guards without a model. They read a text in linear time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from models.errors import JobError
from models.guards.patterns import MAX_SECONDS, PatternRule, PatternTimeout, compile_pattern
from models.guards.personal_data.rule import PersonalDataRule
from models.guards.reading import NOTHING_CAUGHT, Reading
from models.guards.words import WordsRule

if TYPE_CHECKING:  # a definition builds its rule to check it
    from models.guards.definition import Guard, Stage


class Rule(Protocol):
    """What a guard without a model does with one text."""

    def read(self, text: str) -> Reading:
        """Read one text; raises PatternTimeout if that takes too long."""


class MaxCharactersRule:
    """A text that is too long is caught; there are no spans."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters

    def read(self, text: str) -> Reading:
        """Compare the length."""
        return TOO_LONG if len(text) > self._max_characters else NOTHING_CAUGHT


TOO_LONG = Reading(caught=True)


class RuleReadings(NamedTuple):
    """What the rules of a stage made of the texts of one job.

    readings: of each rule that ran to its end, one for each text. Those before a failure count: a text that they would
        redact is not stored as it was because a later rule failed.
    error: what the first rule raised that did; the rules after it did not run. JobError `guard_failed` if it took too
        long.
    """

    readings: dict[str, list[Reading]]
    error: Exception | None = None


class GuardRules:
    """All guards of one stage that are rules, in order."""

    def __init__(self, guards: "Mapping[str, Guard]", stage: "Stage") -> None:
        self._rules = [
            (name, build_rule(guard), guard.action == "fail")
            for name, guard in guards.items()
            if guard.on == stage and guard.pipeline is None
        ]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def read(self, texts: Sequence[str]) -> RuleReadings:
        """Read all texts of a job; guards after one that blocks the row do not run. Raises nothing."""
        readings: dict[str, list[Reading]] = {}
        for name, rule, blocks in self._rules:
            try:
                readings[name] = found = [rule.read(text) for text in texts]
            except PatternTimeout:
                problem = f"guard {name} takes more than {MAX_SECONDS:g} s for this text; simplify its pattern"
                return RuleReadings(readings, JobError("guard_failed", problem))
            except Exception as error:
                return RuleReadings(readings, error)
            if blocks and any(reading.caught for reading in found):
                break
        return RuleReadings(readings)


def build_rule(guard: "Guard") -> Rule:
    """Build the rule of a guard; raises ValueError if the guard has a model."""
    if guard.pattern is not None:
        return PatternRule(compile_pattern(guard.pattern), first_only=guard.action == "fail")
    if guard.words is not None:
        return WordsRule(guard.words)
    if guard.pii is not None:
        return PersonalDataRule(guard.pii)
    if guard.max_characters is not None:
        return MaxCharactersRule(guard.max_characters)
    raise ValueError("a guard with a pipeline has no rule")
