"""Events, each recorded once, on both databases."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, text
from structlog.testing import capture_logs

from models.db import Database
from models.tables.schedules import Schedule
from producer.schedules.alerts import events
from producer.schedules.alerts.events import EventKind
from tests.threads import run_concurrently

SCHEDULED_AT = datetime(2026, 3, 1, 1, tzinfo=UTC)
NOW = SCHEDULED_AT + timedelta(hours=5)


@pytest.fixture
def database(database: Database) -> Database:
    with database.write() as connection:
        for name in ("nightly", "hourly"):
            values = {"name": name, "definition": {}, "from_config": False, "evaluated_until": SCHEDULED_AT}
            connection.execute(insert(Schedule).values(**values))
    return database


def note(
    database: Database,
    kind: EventKind,
    scheduled_at: datetime | None = SCHEDULED_AT,
    message: str = "it is so",
    url: str | None = None,
    schedule: str = "nightly",
    error_code: str | None = None,
) -> bool:
    with database.write() as connection:
        return events.record_event(
            connection, schedule, scheduled_at, kind, message, occurred_at=NOW, url=url, error_code=error_code
        )


def test_the_same_is_told_once(database: Database) -> None:
    assert note(database, EventKind.MISSED, message="nobody was there")
    assert not note(database, EventKind.MISSED, message="nobody was there, again")
    assert note(database, EventKind.OVERDUE)
    assert note(database, EventKind.MISSED, SCHEDULED_AT + timedelta(days=1))
    assert note(database, EventKind.MISSED, schedule="hourly")

    result = events.list_newest(database, "nightly")

    assert [(item.kind, item.scheduled_at) for item in result] == [
        ("missed", SCHEDULED_AT + timedelta(days=1)),
        ("overdue", SCHEDULED_AT),
        ("missed", SCHEDULED_AT),
    ]
    assert result[-1].as_dict() == {
        "schedule": "nightly",
        "scheduled_at": "2026-03-01T01:00:00.000Z",
        "kind": "missed",
        "message": "nobody was there",
        "occurred_at": "2026-03-01T06:00:00.000Z",
        "delivered_at": None,
    }


def test_without_a_scheduled_time_once_until_it_is_another(database: Database) -> None:
    output = [note(database, EventKind.WAITING, None, message) for message in ("a", "a", "b", "a")]

    assert output == [True, False, True, True]
    assert note(database, EventKind.FAILED, None, "a")


def test_many_at_once_tell_it_once(database: Database) -> None:
    output = run_concurrently(*(lambda: note(database, EventKind.FAILED) for _ in range(4)))

    assert sorted(output) == [False, False, False, True]


def test_rolled_back_with_its_transaction(database: Database) -> None:
    with suppress(RuntimeError), database.write() as connection:
        events.record_event(connection, "nightly", SCHEDULED_AT, "failed", "it is so", occurred_at=NOW)
        raise RuntimeError

    assert events.list_newest(database) == []


def test_what_was_rolled_back_is_not_logged_by_what_the_connection_commits_later(database: Database) -> None:
    with capture_logs() as logs, database.engine.connect() as connection:
        transaction = connection.begin()
        events.record_event(connection, "nightly", SCHEDULED_AT, "failed", "it is so", occurred_at=NOW)
        transaction.rollback()
        with connection.begin():
            events.record_event(connection, "nightly", SCHEDULED_AT, "missed", "it is so", occurred_at=NOW)
            assert logs == []
        with connection.begin():
            connection.execute(text("SELECT 1"))

    assert [line["event"] for line in logs] == ["schedule.missed"]


def test_a_kind_that_there_is_not(database: Database) -> None:
    with pytest.raises(ValueError, match="odd"), database.write() as connection:
        events.record_event(connection, "nightly", SCHEDULED_AT, "odd", "it is so", occurred_at=NOW)


def test_the_newest_of_all_and_not_more_than_asked_for(database: Database) -> None:
    for day in range(5):
        note(database, EventKind.MISSED, SCHEDULED_AT + timedelta(days=day), schedule=("nightly", "hourly")[day % 2])

    assert [item.scheduled_at for item in events.list_newest(database, limit=2)] == [
        SCHEDULED_AT + timedelta(days=day) for day in (4, 3)
    ]
    assert len(events.list_newest(database, "hourly")) == 2


def test_only_with_an_address_there_is_something_to_send(database: Database) -> None:
    note(database, EventKind.MISSED)
    note(database, EventKind.FAILED, url="https://example.org/hook")

    with database.read() as connection:
        due = connection.scalars(text("SELECT kind FROM events WHERE next_delivery_at IS NOT NULL")).all()
    assert due == ["failed"]


def test_the_log_has_the_reason_of_a_failed_run(database: Database) -> None:
    with capture_logs() as logs:
        note(database, EventKind.FAILED, message="source_not_ready: there is no file", error_code="source_not_ready")

    assert [(entry["error_code"], entry["error"]) for entry in logs] == [("source_not_ready", "there is no file")]


def test_the_log_has_no_other_message(database: Database) -> None:
    with capture_logs() as logs:
        for kind in (EventKind.FAILED, EventKind.DRIFT, EventKind.FAILED):
            note(database, kind, message="a label of yours")
        note(database, EventKind.RECOVERED, None)

    assert logs == [
        {
            "event": "schedule.failed",
            "log_level": "error",
            "schedule": "nightly",
            "scheduled_at": "2026-03-01T01:00:00+00:00",
        },
        {
            "event": "schedule.drift",
            "log_level": "warning",
            "schedule": "nightly",
            "scheduled_at": "2026-03-01T01:00:00+00:00",
        },
        {"event": "schedule.recovered", "log_level": "info", "schedule": "nightly", "scheduled_at": None},
    ]
