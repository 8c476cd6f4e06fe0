"""What one guard found in one text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `[start, end)` of a text that a guard caught.

    label: the kind, such as EMAIL or PER, None = the guard has no kinds. Never the text itself.
    """

    start: int
    end: int
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as one guard sees it.

    caught: whether the guard's action is due.
    score: a model's highest score of the labels that count, caught or not; None for rules.
    label: the kind of what was caught, or the label of that score.
    spans: what to redact, in order; empty for guards without spans.
    """

    caught: bool
    score: float | None = None
    label: str | None = None
    spans: tuple[Span, ...] = ()


NOTHING_CAUGHT = Reading(caught=False)
