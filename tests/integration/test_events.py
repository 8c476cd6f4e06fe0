"""Events: each told once, on both databases."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text
from structlog.testing import capture_logs

from models.db import Database
from models.schedule_tables import Schedule
from producer.schedules import events
from producer.schedules.events import Kind, Told
from tests.threads import at_once

SLOT = datetime(2026, 3, 1, 1, tzinfo=UTC)
NOW = SLOT + timedelta(hours=5)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    with database.write() as connection:
        for name in ("nightly", "hourly"):
            values = {"name": name, "definition": {}, "declared": False, "decided_at": SLOT}
            connection.execute(insert(Schedule).values(**values))
    yield database
    database.close()


def note(
    database: Database, kind: Kind, slot: datetime | None = SLOT, message: str = "it is so", url: str | None = None,
    schedule: str = "nightly",
) -> Told | None:  # fmt: skip
    with database.write() as connection:
        return events.note(connection, database.sql, schedule, slot, kind, message, NOW, url)


def test_the_same_is_told_once(database: Database) -> None:
    first = note(database, Kind.MISSED, message="nobody was there")
    assert first is not None
    assert note(database, Kind.MISSED, message="nobody was there, again") is None
    assert note(database, Kind.OVERDUE)
    assert note(database, Kind.MISSED, SLOT + timedelta(days=1))
    assert note(database, Kind.MISSED, schedule="hourly")

    found = events.newest(database, "nightly")

    assert [(one.kind, one.slot) for one in found] == [
        ("missed", SLOT + timedelta(days=1)), ("overdue", SLOT), ("missed", SLOT),
    ]  # fmt: skip
    assert found[-1] == first == Told(first.id, "nightly", SLOT, "missed", "nobody was there", NOW, None, 0, None)


def test_without_a_slot_once_until_it_is_another(database: Database) -> None:
    told = [note(database, Kind.WAITING, None, message) for message in ("a", "a", "b", "a")]

    assert [one is not None for one in told] == [True, False, True, True]
    assert note(database, Kind.FAILED, None, "a") is not None


def test_many_at_once_tell_it_once(database: Database) -> None:
    told = at_once(*(lambda: note(database, Kind.FAILED) for _ in range(4)))

    assert sum(one is not None for one in told) == 1


def test_rolled_back_with_its_transaction(database: Database) -> None:
    with suppress(RuntimeError), database.write() as connection:
        events.note(connection, database.sql, "nightly", SLOT, Kind.FAILED, "it is so", NOW)
        raise RuntimeError

    assert events.newest(database) == []


def test_the_newest_of_all_and_not_more_than_asked_for(database: Database) -> None:
    for day in range(5):
        note(database, Kind.MISSED, SLOT + timedelta(days=day), schedule=("nightly", "hourly")[day % 2])

    assert [one.slot for one in events.newest(database, limit=2)] == [SLOT + timedelta(days=day) for day in (4, 3)]
    assert len(events.newest(database, "hourly")) == 2


def test_only_with_an_address_there_is_something_to_send(database: Database) -> None:
    note(database, Kind.MISSED)
    note(database, Kind.FAILED, url="https://example.org/hook")

    with database.read() as connection:
        due = connection.scalars(text("SELECT kind FROM events WHERE send_at IS NOT NULL")).all()
    assert due == ["failed"]


def test_the_log_has_names_and_no_message(database: Database) -> None:
    with capture_logs() as logs:
        events.tell([note(database, kind, message="a label of yours") for kind in (Kind.FAILED, Kind.DRIFT)])
        events.tell([note(database, Kind.FAILED), note(database, Kind.RECOVERED, None)])

    assert logs == [
        {"event": "schedule.failed", "log_level": "error", "schedule": "nightly", "slot": "2026-03-01T01:00:00+00:00"},
        {"event": "schedule.drift", "log_level": "warning", "schedule": "nightly", "slot": "2026-03-01T01:00:00+00:00"},
        {"event": "schedule.recovered", "log_level": "info", "schedule": "nightly", "slot": None},
    ]
