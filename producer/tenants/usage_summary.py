"""Usage added up: by tenant, by pipeline, and by day or month. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from producer.tenants.usage import Days, UsageRow

MAX_DAYS_OF_EMPTY_MONTHS = 3_660  # in a longer time, months before the first usage and after the last are left out
SECONDS_PER_HOUR = 3600


class Measure(StrEnum):
    """What is added up."""

    ROWS = "rows"
    TOKENS = "tokens"
    HOURS = "device hours"


@dataclass(slots=True)
class Totals:
    """The sums of some usage. Device time is in seconds, with that of guards."""

    succeeded: int = 0
    failed: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    device_seconds: float = 0.0

    def add(self, row: "UsageRow | Totals") -> None:
        """Add a day's usage of a pipeline, or other totals."""
        self.succeeded += row.succeeded
        self.failed += row.failed
        self.tokens += row.tokens
        self.padded_tokens += row.padded_tokens
        self.device_seconds += row.device_seconds

    @property
    def rows(self) -> int:
        """Rows that were computed, also without success."""
        return self.succeeded + self.failed

    @property
    def device_hours(self) -> float:
        """Hours of devices."""
        return self.device_seconds / SECONDS_PER_HOUR

    def amount(self, measure: Measure) -> float:
        """Return the sum of a measure."""
        return {Measure.ROWS: self.rows, Measure.TOKENS: self.tokens, Measure.HOURS: self.device_hours}[measure]


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month with its totals, by group."""

    label: str
    totals: dict[str, Totals]


def add_up(rows: Iterable[UsageRow]) -> Totals:
    """Return the totals of all rows."""
    totals = Totals()
    for row in rows:
        totals.add(row)
    return totals


def group_by(rows: Iterable[UsageRow], key: Callable[[UsageRow], str], measure: Measure) -> list[tuple[str, Totals]]:
    """Return the totals of each group, the largest first."""
    groups: dict[str, Totals] = {}
    for row in rows:
        groups.setdefault(key(row), Totals()).add(row)
    return sorted(groups.items(), key=lambda item: (-item[1].amount(measure), item[0]))


def list_periods(rows: Sequence[UsageRow], days: Days, key: Callable[[UsageRow], str]) -> list[Period]:
    """Return all days, or all months of a long time, in order, also those without usage.

    Of a very long time, only the months from the first usage to the last.

    rows: their `day` may also be a month such as 2026-11
    """
    periods = {label: Period(label, {}) for label in (_months(rows, days) if days.has_months else _days(days))}
    length = len("2026-11" if days.has_months else "2026-11-25")
    for row in rows:
        periods[row.day[:length]].totals.setdefault(key(row), Totals()).add(row)
    return list(periods.values())


def _days(days: Days) -> Iterable[str]:
    for ordinal in range(days.since.toordinal(), days.until.toordinal() + 1):
        yield date.fromordinal(ordinal).isoformat()


def _months(rows: Sequence[UsageRow], days: Days) -> Iterable[str]:
    first, last = days
    if (last - first).days > MAX_DAYS_OF_EMPTY_MONTHS:
        used = [date.fromisoformat(f"{row.day[:7]}-01") for row in rows] or [last]
        first, last = min(used), max(used)
    for month in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield f"{month // 12:04}-{month % 12 + 1:02}"
