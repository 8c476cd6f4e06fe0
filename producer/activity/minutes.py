"""The minutes of the table `activity`, by the database's clock."""

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, column, text

from models.dialects.columns import UtcDateTime
from models.dialects.fragments import SQL_FRAGMENTS

MAX_MINUTES = 24 * 60  # of one reading; workers delete what is older
MINUTE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive minutes since 1970; the last is the current one, which is not over yet.

    now: by the database's clock
    """

    now: datetime
    minutes: int

    @property
    def last(self) -> int:
        """The current minute."""
        return int(self.now.timestamp()) // MINUTE_SECONDS

    @property
    def first(self) -> int:
        """The oldest minute."""
        return self.last - self.minutes + 1

    @property
    def elapsed_seconds(self) -> float:
        """How much of the current minute is over."""
        return max(1.0, self.now.timestamp() - self.last * MINUTE_SECONDS)

    @property
    def starts(self) -> tuple[datetime, ...]:
        """When each minute began."""
        return tuple(
            datetime.fromtimestamp(minute * MINUTE_SECONDS, UTC) for minute in range(self.first, self.last + 1)
        )


def read_span(connection: Connection, minutes: int) -> Span:
    """Return the last minutes."""
    query = text(f"SELECT {SQL_FRAGMENTS[connection.dialect.name].now} AS now")
    now = connection.execute(query.columns(column("now", UtcDateTime))).scalar_one()
    return Span(now, min(max(minutes, 1), MAX_MINUTES))
