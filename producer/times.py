"""A deadline as people write it: a span (`6h`, `1h30m`, `2d`) from now on, or a moment (`2026-11-25 06:00`)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import TextClause, bindparam, text

from models.columns import UtcDateTime
from models.errors import UsageError

UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
MAX_SECONDS = 3650 * 86_400


@dataclass(frozen=True, slots=True)
class Deadline:
    """Either `seconds` from now on, by the database's clock, or a `moment` with its zone."""

    seconds: float | None = None
    expires_at: datetime | None = None

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read what a person wrote, a moment without a zone being this machine's; raises UsageError."""
        seconds = parse_duration(value)
        if seconds is not None:
            return cls(seconds=_check_range(seconds, value))
        try:
            return cls(expires_at=datetime.fromisoformat(value.strip()).astimezone())
        except (ValueError, OverflowError):
            raise UsageError(
                f"deadline {value[:80]!r} is neither a span such as 6h nor a time: 2026-11-25 06:00"
            ) from None

    def bind(self, statement: str, later: str, **params: Any) -> tuple[TextClause, dict[str, Any]]:
        """A statement with the moment in the place of `{expires_at}`, ready to be executed with what it names.

        `later` is the dialect's expression for now + :seconds.
        """
        if self.expires_at is None:
            return text(statement.format(expires_at=later)), {**params, "seconds": self.seconds}
        query = text(statement.format(expires_at=":moment")).bindparams(bindparam("moment", type_=UtcDateTime()))
        return query, {**params, "moment": self.expires_at}


def parse_duration(value: str) -> float | None:
    """The seconds of a span such as 1h30m; None where it is none."""
    words = value.strip().lower()
    if not DURATION.fullmatch(words):
        return None
    return sum(float(n) * UNIT_SECONDS[unit] for n, unit in DURATION_PART.findall(words))


def parse_age(value: str) -> float:
    """The seconds of an age such as 30d, nothing being one too; raises UsageError."""
    seconds = parse_duration(value)
    if seconds is None or seconds > MAX_SECONDS:
        raise UsageError(f"{value[:80]!r} is not an age of at most ten years, such as 30d or 12h")
    return seconds


def _check_range(seconds: float, value: str) -> float:
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(f"deadline {value[:80]!r} is out of range; take more than nothing and at most ten years")
    return seconds
