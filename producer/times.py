"""Deadlines and ages as people write them: a duration (`6h`, `1h30m`, `2d`) or a time (`2026-11-25 06:00`)."""

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
    """A deadline: either `seconds` from now, by the database's clock, or a time with its zone."""

    seconds: float | None = None
    expires_at: datetime | None = None

    @classmethod
    def parse(cls, value: str) -> Self:
        """Parse a duration or a time; a time without a zone is in this machine's. Raises UsageError."""
        seconds = parse_duration(value)
        if seconds is not None:
            if not 0 < seconds <= MAX_SECONDS:
                raise UsageError(f"deadline {value[:80]!r} is out of range; use more than nothing, at most ten years")
            return cls(seconds=seconds)
        try:
            return cls(expires_at=datetime.fromisoformat(value.strip()).astimezone())
        except (ValueError, OverflowError):
            raise UsageError(
                f"deadline {value[:80]!r} is neither a duration such as 6h nor a time such as 2026-11-25 06:00"
            ) from None

    def bind(self, statement: str, now_plus_seconds: str, **params: Any) -> tuple[TextClause, dict[str, Any]]:
        """A statement with the deadline in place of `{expires_at}`, and all its parameters.

        now_plus_seconds: the dialect's expression for now + :seconds.
        """
        if self.expires_at is None:
            return text(statement.format(expires_at=now_plus_seconds)), {**params, "seconds": self.seconds}
        query = text(statement.format(expires_at=":expires_at")).bindparams(
            bindparam("expires_at", type_=UtcDateTime())
        )
        return query, {**params, "expires_at": self.expires_at}


def parse_duration(value: str) -> float | None:
    """The seconds of a duration such as 1h30m; None for any other text."""
    duration = value.strip().lower()
    if not DURATION.fullmatch(duration):
        return None
    return sum(float(number) * UNIT_SECONDS[unit] for number, unit in DURATION_PART.findall(duration))


def parse_age(value: str) -> float:
    """The seconds of an age such as 30d, which may be zero; raises UsageError."""
    seconds = parse_duration(value)
    if seconds is None or seconds > MAX_SECONDS:
        raise UsageError(f"{value[:80]!r} is not an age of at most ten years, such as 30d or 12h")
    return seconds
