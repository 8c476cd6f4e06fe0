"""The clock that schedules go by: the database's own, or, to rehearse, one that starts elsewhere and runs faster."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from models.columns import Moment
from models.db import Database
from models.errors import SettingsError
from models.settings import Settings

Clock = Callable[[], datetime]

# START, the real moment at which it begins (unset: when this process does), and how fast it goes.
REHEARSAL = re.compile(r"(?P<start>[^@*]+)(?:@(?P<began>[^@*]+))?(?:\*(?P<speed>\d+(?:\.\d+)?))?")


def of(settings: Settings, database: Database) -> Clock:
    """The clock that the settings name; gives aware moments in UTC. Raises SettingsError."""
    if settings.clock is None:
        return lambda: by_database(database)
    found = REHEARSAL.fullmatch(settings.clock.strip())
    if found is None:
        raise _unreadable(settings.clock)
    start = _moment(found["start"], settings.clock)
    began = _moment(found["began"], settings.clock) if found["began"] else datetime.now(UTC)
    speed = float(found["speed"] or 1.0)
    passed = (datetime.now(UTC) - began).total_seconds() - time.monotonic()
    return lambda: start + timedelta(seconds=speed * (passed + time.monotonic()))


def by_database(database: Database) -> datetime:
    """What the database's clock says; raises Unreachable."""
    query = text(f"SELECT {database.sql.now} AS moment").columns(moment=Moment())
    with database.read() as connection:
        moment: datetime = connection.execute(query).scalar_one()
    return moment


def _moment(said: str, whole: str) -> datetime:
    try:
        return datetime.fromisoformat(said.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _unreadable(whole) from None


def _unreadable(said: str) -> SettingsError:
    return SettingsError(
        f"setting 'clock': {said[:80]!r} is not START[@REAL_MOMENT][*SPEED], such as 2026-03-28T00:00Z*3600"
    )
