"""A deadline as people write it: a span (`6h`, `1h30m`, `2d`) from now on, or a moment (`2026-11-25 06:00`)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import TextClause, bindparam, text

from models.columns import Moment
from models.errors import UsageError

UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
SPAN = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
LONGEST_SECONDS = 3650 * 86_400


@dataclass(frozen=True, slots=True)
class Deadline:
    """Either `seconds` from now on, by the database's clock, or a `moment` with its zone."""

    seconds: float | None = None
    moment: datetime | None = None

    @classmethod
    def read(cls, said: str) -> Self:
        """Read what a person wrote, a moment without a zone being this machine's; raises UsageError."""
        seconds = span(said)
        if seconds is not None:
            return cls(seconds=_checked(seconds, said))
        try:
            return cls(moment=datetime.fromisoformat(said.strip()).astimezone())
        except (ValueError, OverflowError):
            raise UsageError(
                f"deadline {said[:80]!r} is neither a span such as 6h nor a time: 2026-11-25 06:00"
            ) from None

    def setting(self, statement: str, later: str, **named: Any) -> tuple[TextClause, dict[str, Any]]:
        """A statement with the moment in the place of `{expires_at}`, ready to be executed with what it names.

        `later` is the dialect's expression for now + :seconds.
        """
        if self.moment is None:
            return text(statement.format(expires_at=later)), {**named, "seconds": self.seconds}
        query = text(statement.format(expires_at=":moment")).bindparams(bindparam("moment", type_=Moment()))
        return query, {**named, "moment": self.moment}


def span(said: str) -> float | None:
    """The seconds of a span such as 1h30m; None where it is none."""
    words = said.strip().lower()
    if not SPAN.fullmatch(words):
        return None
    return sum(float(n) * UNIT_SECONDS[unit] for n, unit in PART.findall(words))


def age(said: str) -> float:
    """The seconds of an age such as 30d, nothing being one too; raises UsageError."""
    seconds = span(said)
    if seconds is None or seconds > LONGEST_SECONDS:
        raise UsageError(f"{said[:80]!r} is not an age of at most ten years, such as 30d or 12h")
    return seconds


def _checked(seconds: float, said: str) -> float:
    if not 0 < seconds <= LONGEST_SECONDS:
        raise UsageError(f"deadline {said[:80]!r} is out of range; take more than nothing and at most ten years")
    return seconds
