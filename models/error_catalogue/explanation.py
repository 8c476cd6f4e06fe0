"""The explanation of one error code."""

from dataclasses import dataclass
from enum import StrEnum


class Remedy(StrEnum):
    """The change that lets a failed job succeed."""

    RETRY = "retry"  # none: the same input may succeed, or on another device
    CHANGE = "change"  # of the pipeline, a guard or a worker by the operator; then a retry
    INPUT = "input"  # another input: the same one fails again


@dataclass(frozen=True, slots=True)
class Explanation:
    """An error code in words.

    title: a few words, such as for a heading
    cause: one sentence
    advice: one sentence
    remedy: the change that helps
    """

    title: str
    cause: str
    advice: str
    remedy: Remedy = Remedy.INPUT

    @property
    def is_worth_retrying(self) -> bool:
        """Whether the same input may succeed without any change."""
        return self.remedy is Remedy.RETRY


def unknown_code(code: str | None) -> Explanation:
    """Return the explanation of a code that the catalogue lacks."""
    return Explanation(
        (code or "unknown error")[:80].replace("_", " ").capitalize(),
        "The pipeline's task reports this code itself.",
        "Read the message, and ask the author of the task.",
        Remedy.CHANGE,
    )
