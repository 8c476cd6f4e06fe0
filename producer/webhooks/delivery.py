"""The sender of webhooks: it sends due events to their address, signed and at least once.

A sender first postpones `next_delivery_at`, so that no two send an event at the same time. If the sender crashes, the
event is sent again then. The receiver recognises duplicates by `webhook-id`, which stays the same.

Receivers are strangers' machines, and one that never answers must not delay the events of others. So several events are
sent at once, each to another receiver and few of one tenant, and a receiver that timed out is left alone for a minute.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Row, TextClause, bindparam, text

from models.backoff import max_backoff_seconds
from models.db import Database
from models.errors import SettingsError
from models.settings import Settings
from producer.webhooks.http_post import DeliveryFailed, DeliveryTimedOut, post
from producer.webhooks.signing import SigningSecret
from producer.webhooks.webhook_address import AddressPolicy

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 10
FIRST_RETRY_SECONDS = 60.0  # longer than a request may take, so that no other sender sends the same event
MAX_ROUND_SECONDS = 30.0
MAX_SENDING, MAX_SENDING_OF_TENANT = 16, 4  # events at once
MAX_CANDIDATES_OF_TENANT, MAX_CANDIDATES = 50, 1_000  # due events that are read at once
LOOK_AGAIN_SECONDS = 1.0  # for new events, while others are being sent
MAX_RETRY_SECONDS = 14_400.0  # all ten attempts take about eight hours

PostFunction = Callable[..., None]  # as `http_post.post`


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """The content of an event: its id for the receiver, and its body."""

    id: str
    body: bytes

    @classmethod
    def create(cls, identity: str, payload: Mapping[str, Any]) -> "WebhookMessage":
        """Build a message.

        identity: text that no other event has, also not one of another database with the same receiver
        """
        return cls(f"msg_{hashlib.sha256(identity.encode()).hexdigest()[:32]}", json.dumps(payload).encode())


@dataclass(frozen=True, slots=True)
class Outbox:
    """A table of events with `webhook_url`, `delivery_attempts`, `next_delivery_at` and `delivered_at`.

    select_due: statement for due events with `id`, `webhook_url`, `tenant` and `attempt`, the number of this attempt
        from 1; at most `:of_tenant` of each tenant and `:most` in all
    postpone, mark_delivered, abandon: statements that change an event; `postpone` only if it is still due
    defer: statement that lets the events `:ids` wait without an attempt
    columns: types of the columns of `select_due`
    build_message: function that returns the content of an event
    """

    select_due: str
    postpone: str
    mark_delivered: str
    abandon: str
    defer: str
    columns: Mapping[str, Any]
    build_message: Callable[[Row[Any]], WebhookMessage]


@dataclass(frozen=True, slots=True)
class SentEvents:
    """How many events were delivered, and how many attempts there were."""

    delivered: int
    attempts: int


def send_due(
    database: Database,
    settings: Settings,
    outboxes: Sequence[Outbox],
    *,
    send: PostFunction = post,
    clock: Callable[[], float] = time.time,
) -> SentEvents:
    """Send due events, several at once. Those that are not delivered are retried later.

    An event that cannot be signed here is retried too, because another machine may have `webhook_secret`. The same
    holds for an address that is neither public nor in `webhook_allowed_hosts`. After 30 seconds no further event is
    started.

    database: our database
    settings: settings with `webhook_secret` and `webhook_allowed_hosts`
    outboxes: tables of events
    send: function that posts a message
    clock: function that returns Unix seconds
    """
    send = partial(send, address_policy=AddressPolicy.from_setting(settings.webhook_allowed_hosts))
    with ThreadPoolExecutor(MAX_SENDING, "webhook") as threads:
        return _Round(database, settings, outboxes, send, clock, threads).run()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An event that is being sent."""

    outbox: Outbox
    row: Row[Any]

    @property
    def tenant(self) -> str | None:
        """The tenant that the event belongs to."""
        tenant: str | None = self.row.tenant
        return tenant

    @property
    def receiver(self) -> str:
        """The host and port."""
        url: str = self.row.webhook_url
        return urlsplit(url).netloc.lower()


@dataclass(slots=True)
class _Round:
    """One round of a sender: only its own thread uses the database, and others wait for receivers."""

    database: Database
    settings: Settings
    outboxes: Sequence[Outbox]
    send: PostFunction
    clock: Callable[[], float]
    threads: ThreadPoolExecutor
    sending: dict[Future[None], _Attempt] = field(default_factory=dict)
    timed_out: set[str] = field(default_factory=set)  # receivers
    delivered: int = 0
    attempts: int = 0

    def run(self) -> SentEvents:
        """Start due events until none is left or the round is over, and wait for those that were started."""
        end = self.clock() + MAX_ROUND_SECONDS
        while True:
            if self.clock() < end:
                self._start_due()
            if not self.sending:
                return SentEvents(self.delivered, self.attempts)
            done, _ = wait(self.sending, LOOK_AGAIN_SECONDS, FIRST_COMPLETED)
            for future in done:
                self._finish(self.sending.pop(future), future)

    def _start_due(self) -> None:
        for outbox in self.outboxes:
            deferred = []
            for row in _read_due(self.database, outbox):
                attempt = _Attempt(outbox, row)
                if attempt.receiver in self.timed_out:
                    deferred.append(row.id)
                elif self._has_room(attempt) and _claim(self.database, outbox, row):
                    self.attempts += 1
                    future = self.threads.submit(_send, attempt, self.settings, self.send, int(self.clock()))
                    self.sending[future] = attempt
            if deferred:
                _defer(self.database, outbox, deferred)

    def _has_room(self, attempt: _Attempt) -> bool:
        """Whether an event can be sent now: no other to its receiver, and not too many of its tenant."""
        others = self.sending.values()
        if len(others) >= MAX_SENDING or any(attempt.receiver == other.receiver for other in others):
            return False
        return sum(attempt.tenant == other.tenant for other in others) < MAX_SENDING_OF_TENANT

    def _finish(self, attempt: _Attempt, future: Future[None]) -> None:
        """Record how an attempt ended."""
        error = future.exception()
        if error is None:
            delivered = text(attempt.outbox.mark_delivered.format(now=self.database.sql.now))
            _execute(self.database, delivered, id=attempt.row.id)
            self.delivered += 1
            return
        if not isinstance(error, Exception):
            raise error
        if isinstance(error, DeliveryTimedOut):
            self.timed_out.add(attempt.receiver)
        _record_failure(self.database, attempt, error)


def retry_seconds(attempt: int) -> float:
    """Return the seconds until the next attempt: a minute, then doubled each time, up to four hours."""
    return max_backoff_seconds(attempt, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)


def _read_due(database: Database, outbox: Outbox) -> Sequence[Row[Any]]:
    due = text(outbox.select_due.format(now=database.sql.now)).columns(**outbox.columns)
    with database.read() as connection:
        return connection.execute(due, {"of_tenant": MAX_CANDIDATES_OF_TENANT, "most": MAX_CANDIDATES}).all()


def _claim(database: Database, outbox: Outbox, row: Row[Any]) -> bool:
    """Postpone an event, in a short transaction that commits before anything is sent; False if another sender did."""
    sql = database.sql
    postpone = text(outbox.postpone.format(now=sql.now, later=sql.now_plus_seconds))
    return _execute(database, postpone, id=row.id, attempt=row.attempt, seconds=retry_seconds(row.attempt)) == 1


def _defer(database: Database, outbox: Outbox, ids: Sequence[int]) -> None:
    statement = text(outbox.defer.format(now=database.sql.now, later=database.sql.now_plus_seconds))
    _execute(database, statement.bindparams(bindparam("ids", expanding=True)), ids=ids, seconds=FIRST_RETRY_SECONDS)


def _send(attempt: _Attempt, settings: Settings, send: PostFunction, now: int) -> None:
    message = attempt.outbox.build_message(attempt.row)
    signature = _signing_secret(settings).signature_headers(message.id, now, message.body)
    send(attempt.row.webhook_url, message.body, signature)


def _record_failure(database: Database, attempt: _Attempt, error: Exception) -> None:
    row = attempt.row
    fields = {"event_id": row.id, "attempt": row.attempt, "host": urlsplit(row.webhook_url).hostname}
    is_refused = isinstance(error, DeliveryFailed)
    problem = str(error) if is_refused else f"it could not be sent ({type(error).__name__})"
    if row.attempt < MAX_ATTEMPTS:
        log.warning(
            "webhook.delivery_failed",
            **fields,
            error=problem,
            retry_seconds=retry_seconds(row.attempt),
            exc_info=None if is_refused or row.attempt > 1 else error,
        )
        return
    log.error("webhook.delivery_abandoned", **fields, error=problem)
    _execute(database, text(attempt.outbox.abandon), id=row.id, attempt=row.attempt)


def _signing_secret(settings: Settings) -> SigningSecret:
    if settings.webhook_secret is None:
        raise DeliveryFailed("webhook_secret is not set here, and nothing is sent unsigned")
    try:
        return SigningSecret.parse(settings.webhook_secret.get_secret_value())
    except SettingsError as error:
        raise DeliveryFailed(str(error)) from None


def _execute(database: Database, statement: TextClause, **values: Any) -> int:
    with database.write() as connection:
        return connection.execute(statement, values).rowcount
