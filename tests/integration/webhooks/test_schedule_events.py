"""Webhooks: signed, sent until they are taken, by one sender at a time, on both databases."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import insert, text, update
from structlog.testing import capture_logs

from models.db import Database
from models.settings import Settings
from models.tables.schedules import Run, Schedule
from producer.schedules.alerts import events
from producer.schedules.alerts.event_outbox import SCHEDULE_EVENTS
from producer.schedules.alerts.events import EventKind
from producer.webhooks import delivery
from producer.webhooks.http_post import DeliveryFailed, post
from producer.webhooks.signing import SigningSecret
from tests.factories.batch_rows import execute
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from tests.webhook_server import WebhookServer, run_webhook_server

SCHEDULED_AT = datetime(2026, 3, 1, 1, tzinfo=UTC)
SECRET = SigningSecret(b"k" * 32)
STORED = "whsec_" + base64.b64encode(SECRET.key).decode()
SENT_AT = 1_772_330_400.5


@pytest.fixture
def database(database: Database) -> Database:
    with database.write() as connection:
        values = {"name": "nightly", "definition": {}, "from_config": False, "evaluated_until": SCHEDULED_AT}
        connection.execute(insert(Schedule).values(**values))
        run = {
            "schedule": "nightly",
            "scheduled_at": SCHEDULED_AT,
            "trigger": "cron",
            "state": "failed",
            "definition": {},
            "concurrent": False,
        }
        connection.execute(insert(Run).values(**run, batch_id="batch_7", planned_at=SCHEDULED_AT))
    return database


@pytest.fixture
def here() -> Iterator[WebhookServer]:
    with run_webhook_server() as here:
        yield here


def note(database: Database, url: str, *kinds: EventKind, scheduled_at: datetime | None = SCHEDULED_AT) -> None:
    with database.write() as connection:
        for kind in kinds:
            events.record_event(
                connection, "nightly", scheduled_at, kind, 'it "failed"', occurred_at=SCHEDULED_AT, url=url
            )


def test_counts_of_guards_are_sent_with_the_event(database: Database, here: WebhookServer) -> None:
    guards = {"injection": {"passed": 9, "flagged": 0, "redacted": 0, "blocked": 1}}
    with database.write() as connection:
        connection.execute(update(Run).values(summary={"total": 10, "guards": guards}))
    note(database, here.url, EventKind.DRIFT)

    send(database)

    [(_, body)] = here.requests
    assert json.loads(body)["data"]["guards"] == guards


def settings(secret: str | None = STORED) -> Settings:
    return Settings(webhook_secret=secret and SecretStr(secret), webhook_allowed_hosts=("127.0.0.1",))


def send(database: Database, post: delivery.PostFunction = post) -> int:
    return delivery.send_due(database, settings(), (SCHEDULE_EVENTS,), send=post, clock=lambda: SENT_AT).delivered


def is_due_again(database: Database) -> None:
    """Let the backoff be over."""
    execute(database, f"UPDATE events SET next_delivery_at = {database.sql.now} WHERE next_delivery_at IS NOT NULL")


def event(database: Database) -> Any:
    with database.read() as connection:
        return connection.execute(text("SELECT delivery_attempts, next_delivery_at, delivered_at FROM events")).one()


def test_what_is_sent_and_how_it_is_signed(database: Database, here: WebhookServer) -> None:
    note(database, here.url, EventKind.FAILED)

    assert send(database) == 1

    [(headers, body)] = here.requests
    assert json.loads(body) == {
        "type": "schedule.failed",
        "timestamp": "2026-03-01T01:00:00.000Z",
        "data": {
            "schedule": "nightly",
            "scheduled_at": "2026-03-01T01:00:00.000Z",
            "kind": "failed",
            "message": 'it "failed"',
            "batch_id": "batch_7",
            "guards": {},
        },
    }
    assert headers["webhook-timestamp"] == "1772330400"
    assert re.fullmatch("msg_[0-9a-f]{32}", headers["webhook-id"])
    assert (
        headers["webhook-signature"]
        == SECRET.signature_headers(headers["webhook-id"], 1772330400, body)["webhook-signature"]
    )
    assert send(database) == 0, "once"
    assert event(database).delivered_at is not None


def test_an_event_without_time_or_run(database: Database, here: WebhookServer) -> None:
    note(database, here.url, EventKind.WAITING, scheduled_at=None)
    note(database, here.url, EventKind.MISSED, scheduled_at=SCHEDULED_AT + timedelta(days=1))

    assert send(database) == 2

    data = [json.loads(body)["data"] for _, body in here.requests]
    assert [(item["scheduled_at"], item["batch_id"]) for item in data] == [
        (None, None),
        ("2026-03-02T01:00:00.000Z", None),
    ]
    assert len({headers["webhook-id"] for headers, _ in here.requests}) == 2


def test_not_taken_it_is_sent_again_as_the_same(database: Database, here: WebhookServer) -> None:
    here.status_codes = [500, 200]
    note(database, here.url, EventKind.FAILED)

    with capture_logs() as logs:
        assert send(database) == 0
        assert send(database) == 0, "not before its time"
        is_due_again(database)
        assert send(database) == 1

    [(first, body), (second, again)] = here.requests
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert (event(database).delivery_attempts, event(database).next_delivery_at) == (2, None)
    [warning] = logs
    assert (warning["event"], warning["error"], warning["retry_seconds"]) == (
        "webhook.delivery_failed",
        "it answered 500",
        60.0,
    )
    assert "hidden" not in str(logs), "an address may have a token in it"


def test_one_that_fails_does_not_hold_up_the_others(database: Database, here: WebhookServer) -> None:
    with run_webhook_server() as missing:
        note(database, missing.url, EventKind.FAILED)
    note(database, here.url, EventKind.OVERDUE)

    assert send(database) == 1
    assert len(here.requests) == 1


def test_given_up_in_the_end(database: Database) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DeliveryFailed("it answered 404")

    note(database, "https://example.org/hook", EventKind.FAILED)
    with capture_logs() as logs:
        for _ in range(delivery.MAX_ATTEMPTS + 2):
            send(database, refuse)
            is_due_again(database)

    assert (event(database).delivery_attempts, event(database).next_delivery_at, event(database).delivered_at) == (
        delivery.MAX_ATTEMPTS,
        None,
        None,
    )
    assert [line["event"] for line in logs][-2:] == ["webhook.delivery_failed", "webhook.delivery_abandoned"]
    assert logs[-1]["log_level"] == "error"


def test_backoff_doubles_to_its_end() -> None:
    result = [delivery.retry_seconds(number) for number in range(1, delivery.MAX_ATTEMPTS + 1)]

    assert result[:3] == [60.0, 120.0, 240.0]
    assert result[-1] == delivery.MAX_RETRY_SECONDS
    assert 8 < sum(result[:-1]) / 3600 < 9


def test_two_senders_send_each_once(database: Database, database_url: str, here: WebhookServer) -> None:
    note(database, here.url, *EventKind)
    both_send = threading.Barrier(2)
    here.before_response = lambda _handler: both_send.wait(WAIT_TIMEOUT_SECONDS) if len(here.requests) <= 2 else None
    other = Database(database_url)
    counts: list[int] = []
    senders = [threading.Thread(target=lambda item=item: counts.append(send(item))) for item in (database, other)]

    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(WAIT_TIMEOUT_SECONDS)
    other.close()

    assert sum(counts) == len(here.requests) == len(EventKind)
    assert {json.loads(body)["data"]["kind"] for _, body in here.requests} == {kind.value for kind in EventKind}


def test_a_sender_that_dies_over_it_leaves_it_to_others(database: Database, here: WebhookServer) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    note(database, here.url, EventKind.FAILED)
    with pytest.raises(KeyboardInterrupt):
        send(database, die)
    assert send(database) == 0, "it might still be at it"

    is_due_again(database)

    assert send(database) == 1


def test_a_receiver_that_hangs_gets_one_event_and_delays_no_other(database: Database, here: WebhookServer) -> None:
    with run_webhook_server() as hanging:
        hanging.before_response = lambda _handler: hanging.is_closing.wait(WAIT_TIMEOUT_SECONDS)
        note(database, hanging.url, EventKind.FAILED, EventKind.OVERDUE)
        note(database, here.url, EventKind.MISSED, EventKind.DRIFT)

        def send_hastily(url: str, *arguments: Any, **options: Any) -> None:
            seconds = 1.0 if url.startswith(hanging.url) else WAIT_TIMEOUT_SECONDS
            post(url, *arguments, timeout_seconds=seconds, **options)

        sent = delivery.send_due(database, settings(), (SCHEDULE_EVENTS,), send=send_hastily, clock=lambda: SENT_AT)

        assert (sent.delivered, sent.attempts) == (2, 3)
        wait_until(lambda: bool(hanging.requests), "the receiver that hangs to read its event")
        assert (len(hanging.requests), len(here.requests)) == (1, 2)
        assert send(database) == 0, "both wait now"


def test_after_half_a_minute_nothing_more_is_started(database: Database, here: WebhookServer) -> None:
    note(database, here.url, EventKind.FAILED, EventKind.OVERDUE)
    clock = chain([0.0, 0.0, 1.0], repeat(delivery.MAX_ROUND_SECONDS))

    sent = delivery.send_due(database, settings(), (SCHEDULE_EVENTS,), clock=lambda: next(clock))

    assert sent.delivered == len(here.requests) == 1


@pytest.mark.parametrize(
    ("secret", "problem"), [(None, "webhook_secret is not set here"), ("hunter2", "webhook_secret is not whsec_")]
)
def test_without_a_secret_it_is_left_to_whoever_has_one(
    database: Database, here: WebhookServer, secret: str | None, problem: str
) -> None:
    note(database, here.url, EventKind.FAILED)
    with capture_logs() as logs:
        assert delivery.send_due(database, settings(secret), (SCHEDULE_EVENTS,)).delivered == 0

    assert logs[0]["error"].startswith(problem)
    assert "hunter2" not in str(logs)
    is_due_again(database)
    assert send(database) == len(here.requests) == 1
