"""The clock that schedules use: the database's own, or a simulated one with another start and speed."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import SettingsError
from models.settings import Settings

Clock = Callable[[], datetime]

# START, the real time at which the clock starts (unset: when this process does), and its speed as a factor.
SIMULATED_CLOCK = re.compile(r"(?P<start>[^@*]+)(?:@(?P<began>[^@*]+))?(?:\*(?P<speed>\d+(?:\.\d+)?))?")


def clock_for(settings: Settings, database: Database) -> Clock:
    """Build the clock that the settings name, which returns aware times in UTC; raises SettingsError."""
    if settings.simulated_clock is None:
        return lambda: database_time(database)
    match = SIMULATED_CLOCK.fullmatch(settings.simulated_clock.strip())
    if match is None:
        raise _invalid_clock(settings.simulated_clock)
    start = _parse_time(match["start"], settings.simulated_clock)
    began = _parse_time(match["began"], settings.simulated_clock) if match["began"] else datetime.now(UTC)
    speed = float(match["speed"] or 1.0)
    passed = (datetime.now(UTC) - began).total_seconds() - time.monotonic()
    return lambda: start + timedelta(seconds=speed * (passed + time.monotonic()))


def database_time(database: Database) -> datetime:
    """The current time by the database's clock; raises Unreachable."""
    query = text(f"SELECT {database.sql.now} AS moment").columns(moment=UtcDateTime())
    with database.read() as connection:
        moment: datetime = connection.execute(query).scalar_one()
    return moment


def _parse_time(raw_value: str, setting: str) -> datetime:
    try:
        return datetime.fromisoformat(raw_value.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _invalid_clock(setting) from None


def _invalid_clock(setting: str) -> SettingsError:
    return SettingsError(
        f"setting 'simulated_clock': {setting[:80]!r} is not START[@REAL_MOMENT][*SPEED], "
        "such as 2026-03-28T00:00Z*3600"
    )
