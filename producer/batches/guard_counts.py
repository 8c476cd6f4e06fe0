"""The rows that each guard of a batch passed, flagged, redacted and blocked, and the device time that it took."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, text

# Guards of inputs first, as they run; a batch has at most a few, and only guarded batches are asked for.
SELECT_GUARDS = """
SELECT batch_id, guard, stage, action, passed, flagged, redacted, blocked, device_seconds
FROM batch_guards WHERE batch_id IN :batch_ids ORDER BY batch_id, stage, guard
"""


@dataclass(frozen=True, slots=True)
class GuardCounts:
    """The verdicts of one guard over the results of a batch so far.

    device_seconds: the time that its model took; 0 for rules.
    """

    guard: str
    on: str  # input | output
    action: str  # fail | flag | redact: what happens to a row that it catches
    passed: int = 0
    flagged: int = 0
    redacted: int = 0
    blocked: int = 0
    device_seconds: float = 0.0

    @property
    def caught(self) -> int:
        """The rows that it did not pass."""
        return self.flagged + self.redacted + self.blocked

    @property
    def counts_by_outcome(self) -> dict[str, int]:
        """The rows by what the guard did."""
        return {"passed": self.passed, "flagged": self.flagged, "redacted": self.redacted, "blocked": self.blocked}

    def as_dict(self) -> dict[str, Any]:
        """Return the object in a batch's `guards`; its keys are stable."""
        return {
            "guard": self.guard,
            "on": self.on,
            "action": self.action,
            **self.counts_by_outcome,
            "device_seconds": round(self.device_seconds, 3),
        }


def count_by_batch(connection: Connection, batch_ids: Iterable[str]) -> dict[str, tuple[GuardCounts, ...]]:
    """Return the guards of these batches; a batch without guards is left out."""
    batch_ids = list(batch_ids)
    if not batch_ids:
        return {}
    query = text(SELECT_GUARDS).bindparams(bindparam("batch_ids", expanding=True))
    found: dict[str, list[GuardCounts]] = {}
    for batch_id, *values in connection.execute(query, {"batch_ids": batch_ids}):
        found.setdefault(batch_id, []).append(GuardCounts(*values))
    return {batch_id: tuple(guards) for batch_id, guards in found.items()}
