"""A verdict is what one guard decided about one job, as `job_results.guards` holds it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from models.documents import to_json
from models.guards.definition import Stage

# `pass`: the guard caught nothing. The others are the guard's own action.
VerdictAction = Literal["pass", "flag", "redact", "fail"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One guard's decision about one job. It never holds a text.

    score: highest score of the labels that count, None for rules.
    label: the kind of what was caught, or the label of that score.
    spans: number of places that were caught.
    model, revision: of the guard's model, None for rules.
    definition: hash of the guard's settings, so that a verdict of an older definition is not taken for a current one.
    """

    guard: str
    on: Stage
    action: VerdictAction
    score: float | None = None
    label: str | None = None
    spans: int = 0
    model: str | None = None
    revision: str | None = None
    definition: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The object in `job_results.guards`; its keys are stable."""
        return {
            "guard": self.guard,
            "on": self.on,
            "action": self.action,
            "score": self.score,
            "label": self.label,
            "spans": self.spans,
            "model": self.model,
            "revision": self.revision,
            "definition": self.definition,
        }


def verdicts_json(verdicts: Iterable[Verdict]) -> str | None:
    """The JSON list of `job_results.guards`; None without verdicts."""
    documents = [verdict.as_dict() for verdict in verdicts]
    return to_json(documents) if documents else None
