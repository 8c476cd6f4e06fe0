"""Pages of the list of batches, in either direction, with a bound on how far a search looks."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, select

from models.db import Database
from models.errors import UsageError
from models.tables.batches import Batch
from producer.batches import views
from producer.batches.batch_view import BatchView
from producer.batches.listing import BatchFilter, Place

# The batches that one request looks at when no index finds those that match: some 30 ms on either database.
MAX_SEARCHED = 10_000

SELECT_PLACES: Select[*tuple[Any, ...]] = select(*(Batch.__table__.c[name] for name in ("created_at", "id")))

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BatchPage:
    """A page of the list, the newest first.

    newer, older: places from which the neighbouring pages begin; None = there is no such page
    stopped_at: where the search stopped before the page was full; None = it looked at all batches
    """

    batches: tuple[BatchView, ...] = ()
    newer: Place | None = None
    older: Place | None = None
    stopped_at: Place | None = None


def fetch_page(database: Database, batch_filter: BatchFilter, limit: int) -> BatchPage:
    """Return the first page that a filter finds, after `older_than` or before `newer_than` if it has one of them."""
    is_backward = batch_filter.newer_than is not None
    last_searched, bounded = _bound_search(database, batch_filter, is_backward=is_backward)
    query = bounded.apply(views.select_brief(database.engine.dialect.name), database.engine.dialect.name)
    batches = views.list_brief(database, _ordered(query, is_backward=is_backward).limit(limit + 1))
    has_more = len(batches) > limit
    batches = batches[:limit]
    if is_backward:
        batches.reverse()
    ends = (place_of(batches[0]), place_of(batches[-1])) if batches else (None, None)
    begins_within = batch_filter.older_than is not None or is_backward
    if is_backward:
        return BatchPage(tuple(batches), ends[0] if has_more else None, ends[1], None if has_more else last_searched)
    newer = ends[0] if begins_within else None
    return BatchPage(tuple(batches), newer, ends[1] if has_more else None, None if has_more else last_searched)


def place_of(batch: BatchView) -> Place:
    """A batch's place in the list."""
    created_at = batch.timestamps["created_at"]
    assert created_at is not None
    return created_at, batch.id


def format_place(place: Place | None) -> str | None:
    """Return a place as it stands in an address: microseconds since 1970, a dot, and the batch's id."""
    return None if place is None else f"{(place[0] - EPOCH) // MICROSECOND}.{place[1]}"


def parse_place(text: str) -> Place:
    """Read such a place; raises UsageError."""
    micros, _, batch_id = text.partition(".")
    try:
        if not batch_id:
            raise ValueError
        return EPOCH + int(micros[:20]) * MICROSECOND, batch_id
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:40]!r} is no place in the list; follow the links of a page") from None


def _bound_search(
    database: Database, batch_filter: BatchFilter, *, is_backward: bool
) -> tuple[Place | None, BatchFilter]:
    """Return where a search has to stop, None if it can look at all, and the filter with this bound."""
    if batch_filter.is_by_index:
        return None, batch_filter
    walked = BatchFilter(
        tenant=batch_filter.tenant,
        since=batch_filter.since,
        until=batch_filter.until,
        older_than=batch_filter.older_than,
        newer_than=batch_filter.newer_than,
    )
    query = walked.apply(SELECT_PLACES, database.engine.dialect.name)
    with database.read() as connection:
        rows = connection.execute(_ordered(query, is_backward=is_backward).offset(MAX_SEARCHED - 1).limit(2)).all()
    if len(rows) < 2:
        return None, batch_filter
    last_searched, stop = ((row.created_at, row.id) for row in rows)
    if is_backward:
        return last_searched, replace(batch_filter, older_than=stop)
    return last_searched, replace(batch_filter, newer_than=stop)


def _ordered(query: Select[Any], *, is_backward: bool) -> Select[Any]:
    if is_backward:
        return query.order_by(Batch.created_at, Batch.id)
    return query.order_by(Batch.created_at.desc(), Batch.id.desc())
