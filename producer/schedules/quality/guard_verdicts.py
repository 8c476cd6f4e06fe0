"""Counts of the guards' verdicts in a run's results."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.documents import from_json
from models.lifecycle.guard_counters import COUNTER_BY_ACTION, COUNTERS

PASSED, *CAUGHT = COUNTERS


@dataclass(slots=True)
class GuardTally:
    """Collects the verdicts of results one by one; there are as many counts as guards."""

    _outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    _versions: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, verdicts_json: str) -> None:
        """Add the verdicts of one result, as `job_results.guards` has them."""
        for verdict in from_json(verdicts_json):
            guard = verdict["guard"]
            self._outcomes.setdefault(guard, Counter())[COUNTER_BY_ACTION[verdict["action"]]] += 1
            if verdict["model"] is not None:
                version = f"{verdict['model']}@{verdict['revision']}"
                self._versions.setdefault(guard, Counter())[version] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        """Return each guard's rows by outcome, by name; all outcomes are there."""
        return {
            guard: {outcome: counts[outcome] for outcome in COUNTERS}
            for guard, counts in sorted(self._outcomes.items())
        }

    def versions(self) -> dict[str, dict[str, int]]:
        """Return the rows that each guard's model read, by "model@revision"; guards by rules are left out."""
        return {guard: dict(counts.most_common()) for guard, counts in sorted(self._versions.items())}


def caught_and_read(outcomes: Mapping[str, int]) -> tuple[int, int]:
    """Return how many rows a guard caught, and how many it read."""
    rows = sum(outcomes.values())
    return rows - outcomes[PASSED], rows
