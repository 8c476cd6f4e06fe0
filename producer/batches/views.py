"""The queries that read batches."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Integer, Row, Select, bindparam, case, literal_column, null, select

from models.db import Database
from models.errors import NotFound
from models.states import BatchStatus
from models.tables.batches import Batch
from models.tables.results import ModelVersion, Result
from producer.advice import LIST_BATCHES
from producer.batches import guard_counts, pace
from producer.batches.batch_view import TIMESTAMP_FIELDS, GuardCounts, being_deleted
from producer.batches.batch_view import BatchView as BatchView
from producer.batches.batch_view import JobCounts as JobCounts
from producer.batches.batch_view import check_not_deleting as check_not_deleting
from producer.batches.listing import BatchFilter
from producer.batches.pace import WorkingTime
from producer.error_params import naming
from producer.readers.storable import is_storable

IDS_PER_QUERY = 500
COLUMNS_OF_VERSION = (ModelVersion.dtype, ModelVersion.device, ModelVersion.adapter, ModelVersion.adapter_revision)


def get_batch(database: Database, batch_id: str, tenant: str | None = None) -> BatchView:
    """Return one batch; raises NotFound.

    tenant: to whom it must belong; None = to anybody
    """
    with database.read() as connection:
        query = _one_batch_query(database.engine.dialect.name)
        row = connection.execute(query, {"batch_id": batch_id}).one_or_none() if is_storable(batch_id) else None
        if row is None or (tenant is not None and row.tenant != tenant):
            raise _not_found(batch_id)
        working_times = pace.working_times(connection, [batch_id])
        guards = guard_counts.count_by_batch(connection, _guarded_ids([row]))
    return _view_from_row(row, working_times, guards)


def check_exists(database: Database, batch_id: str) -> None:
    """Raise NotFound as `get_batch` does; this reads only the batch's row."""
    query = select(Batch.id).where(Batch.id == batch_id)
    with database.statement() as connection:
        if not is_storable(batch_id) or connection.scalar(query) is None:
            raise _not_found(batch_id)


def check_visible(database: Database, batch_id: str, tenant: str | None) -> None:
    """Raise NotFound as `get_batch` does, or if the batch is being deleted; this reads only the batch's row."""
    with database.read() as connection:
        found = connection.execute(_visibility_query(), {"batch_id": batch_id if is_storable(batch_id) else ""})
        row = found.one_or_none()
    if row is None or (tenant is not None and row.tenant != tenant):
        raise _not_found(batch_id)
    if row.status == BatchStatus.DELETING:
        raise being_deleted(batch_id)


@cache
def _visibility_query() -> Select[Any]:
    columns = Batch.__table__.c
    return select(columns.tenant, columns.status).where(columns.id == bindparam("batch_id"))


def _not_found(batch_id: str) -> NotFound:
    return NotFound(f"there is no batch {batch_id[:80]!r}; " + LIST_BATCHES)


def list_batches(database: Database, limit: int, batch_filter: BatchFilter | None = None) -> list[BatchView]:
    """Return the newest batches, at most `limit`; raises NotFound if there is none to begin after."""
    dialect = database.engine.dialect.name
    query = _batch_query(dialect).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(limit)
    if batch_filter is not None:
        query = batch_filter.apply(query, dialect)
        if batch_filter.after is not None:
            with naming("after"):
                get_batch(database, batch_filter.after, batch_filter.tenant)
    return _read_views(database, query)


def list_brief(database: Database, query: Select[Any]) -> list[BatchView]:
    """Return the batches that a query of `select_brief` finds; those that have ended lack their pace and device."""
    with database.read() as connection:
        rows = connection.execute(query).all()
        open_ids = [row.id for row in rows if not BatchStatus(row.status).has_ended]
        working_times = pace.working_times(connection, open_ids)
        guards = guard_counts.count_by_batch(connection, _guarded_ids(rows))
    return [_view_from_row(row, working_times, guards) for row in rows]


def find_batches(database: Database, batch_ids: Iterable[str]) -> dict[str, BatchView]:
    """Return those of these batches that exist, by id."""
    ids = list(dict.fromkeys(batch_ids))
    query = _batch_query(database.engine.dialect.name)
    parts = (ids[start : start + IDS_PER_QUERY] for start in range(0, len(ids), IDS_PER_QUERY))
    return {batch.id: batch for part in parts for batch in _read_views(database, query.where(Batch.id.in_(part)))}


def _read_views(database: Database, query: Select[Any]) -> list[BatchView]:
    with database.read() as connection:
        rows = connection.execute(query).all()
        working_times = pace.working_times(connection, [row.id for row in rows])
        guards = guard_counts.count_by_batch(connection, _guarded_ids(rows))
    return [_view_from_row(row, working_times, guards) for row in rows]


def _guarded_ids(rows: Iterable[Row[Any]]) -> list[str]:
    return [row.id for row in rows if row.guarded]


@cache
def _one_batch_query(dialect: str) -> Select[Any]:
    return _batch_query(dialect).where(Batch.id == bindparam("batch_id"))


@cache  # building it takes as long as running it
def _batch_query(dialect: str) -> Select[Any]:
    """Select batches with their model version and claimed failures: index look-ups, however many jobs they have."""
    # Only results of a model have a version, so the subquery runs only for batches that have such results.
    first_version = (
        select(Result.model_version_id)
        .where(Result.batch_id == Batch.id, Result.model_version_id.is_not(None))
        .order_by(Result.seq)
        .limit(1)
    )
    version: ColumnElement[int] = case((Batch.succeeded > 0, first_version.scalar_subquery()))
    claimed_failures: ColumnElement[int] = literal_column(pace.count_claimed_failures(dialect), Integer)
    return (
        select(*Batch.__table__.c, *COLUMNS_OF_VERSION, claimed_failures.label("claimed_failures"))
        .select_from(Batch)
        .outerjoin(ModelVersion, ModelVersion.id == version)
    )


@cache
def select_brief(dialect: str) -> Select[Any]:
    """Select batches without what takes a look-up for each: their model version, and claims of those that ended."""
    no_version = (null().label(column.key) for column in COLUMNS_OF_VERSION)
    claimed_failures: ColumnElement[int] = literal_column(pace.count_claimed_failures(dialect), Integer)
    of_open = case((Batch.status == BatchStatus.IN_PROGRESS.value, claimed_failures), else_=0)
    return select(*Batch.__table__.c, *no_version, of_open.label("claimed_failures")).select_from(Batch)


def _view_from_row(
    row: Row[Any], working_times: Mapping[str, WorkingTime], guards: Mapping[str, tuple[GuardCounts, ...]]
) -> BatchView:
    counts = JobCounts(row.total, row.succeeded, row.failed, row.cancelled, row.expired)
    status = BatchStatus(row.status)
    working_time = working_times.get(row.id, WorkingTime(0.0, is_running=False))
    is_running = working_time.is_running and not status.has_ended
    return BatchView(
        id=row.id,
        status=status,
        name=row.name,
        pipeline=row.pipeline,
        task=row.task,
        model=row.model,
        revision=row.revision,
        dtype=row.dtype,
        device=row.device,
        parameters=row.parameters,
        metadata=row.metadata,
        priority=row.priority,
        counts=counts,
        ingesting=row.ingesting and status is BatchStatus.IN_PROGRESS,
        reused=row.reused,
        tokens=row.tokens,
        padded_tokens=row.padded_tokens,
        device_seconds=row.device_seconds,
        working_seconds=working_time.seconds,
        jobs_per_second=pace.jobs_per_second(counts.succeeded - row.reused + row.claimed_failures, working_time.seconds)
        if is_running or status.has_ended
        else None,
        is_running=is_running,
        guards=guards.get(row.id, ()),
        output_cache_key=row.output_cache_key,
        source_batch_id=row.source_batch_id,
        tenant=row.tenant,
        endpoint=row.endpoint,
        completion_window=row.completion_window,
        input_file_id=row.input_file_id,
        input_errors=tuple(row.input_errors or ()),
        webhook_url=row.webhook_url,
        response_options=row.response_options or {},
        adapter=row.adapter,
        adapter_revision=row.adapter_revision,
        error_code=row.error_code,
        error_message=row.error_message,
        timestamps={name: getattr(row, name) for name in TIMESTAMP_FIELDS},
    )
