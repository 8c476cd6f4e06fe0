"""A batch whose file can't be read at all: it is created as failed, with the lines that are wrong, as OpenAI has it.

Its pipeline may not exist, so it has no task, no model and no jobs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.dialects.fragments import SqlFragments
from models.documents import to_json
from models.errors import IdempotencyConflict
from models.lifecycle import termination
from models.states import BatchStatus, Termination
from models.tables.batches import Batch
from producer.readers.storable import make_storable
from producer.submission.identity.batch_ids import new_batch_id
from producer.submission.open_submission import SET_DEADLINE
from producer.submission.options import SubmitOptions
from producer.tenants.principal import DEFAULT_TENANT
from producer.times import Deadline
from producer.uploads.intake.failing import MAX_INPUT_ERRORS
from producer.uploads.intake.opening import OpenedBatch

SELECT_BY_KEY = "SELECT id, request_fingerprint FROM batches WHERE tenant = :tenant AND idempotency_key = :key"

INVALID_ROWS = "invalid_rows"
MAX_PIPELINE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class BatchOrder:
    """What an OpenAI client asks for.

    options: ours, as SubmitOptions has them: name, priority, max_failures, on_invalid, reuse and webhook_url
    """

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    tenant: str = DEFAULT_TENANT

    @property
    def submit_options(self) -> SubmitOptions:
        """All options but those that its lines have."""
        return SubmitOptions(
            metadata=self.metadata, deadline=self.completion_window, tenant=self.tenant, **self.options
        )


class Refusal(Exception):
    """The reasons why a file can't be a batch.

    pipeline: its name as far as it is known
    errors: see `failing.input_error`; at least one
    """

    def __init__(self, pipeline: str | None, errors: list[dict[str, Any]]) -> None:
        super().__init__()
        self.pipeline = pipeline or ""
        self.errors = errors[:MAX_INPUT_ERRORS]


def create(database: Database, order: BatchOrder, key: str, refusal: Refusal) -> OpenedBatch:
    """Create the failed batch, or return the one that has this idempotency key; raises IdempotencyConflict."""
    fingerprint = _fingerprint(order)
    while True:
        with database.read() as connection:
            known = connection.execute(text(SELECT_BY_KEY), {"tenant": order.tenant, "key": key}).one_or_none()
        if known is not None and known.request_fingerprint != fingerprint:
            raise IdempotencyConflict(
                f"the idempotency key {key!r} belongs to {known.id}, which was made by another request; use another key"
            )
        if known is not None:
            return OpenedBatch(known.id, existed=True)
        batch_id = new_batch_id()
        values = _values(order, refusal) | {"id": batch_id, "idempotency_key": key, "request_fingerprint": fingerprint}
        try:
            database.transact(partial(_insert, sql=database.sql, values=values, order=order))
        except IntegrityError:  # another request with the key was faster
            continue
        return OpenedBatch(batch_id)


def _values(order: BatchOrder, refusal: Refusal) -> dict[str, Any]:
    return {
        "name": order.options.get("name"),
        "pipeline": make_storable(refusal.pipeline[:MAX_PIPELINE_CHARACTERS]),
        "task": "",
        "model": "",
        "parameters": {},
        "metadata": dict(order.metadata),
        "priority": 0,
        "status": BatchStatus.VALIDATING.value,
        "tenant": order.tenant,
        "endpoint": order.endpoint,
        "completion_window": order.completion_window,
        "input_file_id": order.input_file_id,
        "input_errors": refusal.errors,
        "webhook_url": order.options.get("webhook_url"),
    }


def _insert(connection: Connection, *, sql: SqlFragments, values: dict[str, Any], order: BatchOrder) -> None:
    connection.execute(insert(Batch.__table__).values(values))  # type: ignore[arg-type]
    window = Deadline.parse(order.completion_window)
    connection.execute(*window.bind(SET_DEADLINE, sql.now_plus_seconds, batch_id=values["id"]))
    message = str(values["input_errors"][0]["message"])
    termination.begin_termination(connection, sql, values["id"], Termination.FAILED, INVALID_ROWS, message)
    termination.close_chunk(connection, sql, values["id"])


def _fingerprint(order: BatchOrder) -> str:
    values = [order.input_file_id, order.endpoint, order.completion_window, dict(order.metadata), dict(order.options)]
    return hashlib.sha256(to_json(values).encode()).hexdigest()
