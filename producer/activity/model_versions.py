"""The models that answered a pipeline's last batches, with the pace that they had."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from producer.activity.device_pace import DevicePace
from producer.activity.tenants import of_tenant

MAX_BATCHES = 200  # the newest ones that are looked at
NAMED_BATCHES = 1_000  # among which pipelines are looked for that the catalogue lacks

# A batch counts as computed by the version of its first result that has one.
SELECT_BATCHES = """
SELECT b.model, b.revision, b.created_at, b.jobs, b.tokens, b.device_seconds,
       v.dtype, v.device, v.adapter, v.adapter_revision
FROM (SELECT id, model, revision, created_at, succeeded - reused + failed AS jobs, tokens, device_seconds FROM batches
      WHERE pipeline = :pipeline AND succeeded > reused {of_tenant}
      ORDER BY created_at DESC, id DESC LIMIT :limit) AS b
LEFT JOIN model_versions v ON v.id = (
    SELECT r.model_version_id FROM results r WHERE r.batch_id = b.id AND r.model_version_id IS NOT NULL
    ORDER BY r.seq LIMIT 1)
"""
SELECT_NAMED = """
SELECT pipeline, count(*) AS batches, max(created_at) AS last_used FROM (
    SELECT pipeline, created_at FROM batches WHERE status <> 'deleting' {of_tenant}
    ORDER BY created_at DESC, id DESC LIMIT :limit) AS newest
GROUP BY pipeline
"""


class VersionKey(NamedTuple):
    """What tells two versions apart."""

    model: str
    revision: str | None
    dtype: str | None
    device: str | None
    adapter: str | None
    adapter_revision: str | None


@dataclass(frozen=True, slots=True)
class VersionUse(DevicePace):
    """What a model version computed in the batches that were looked at.

    first_used, last_used: when the first and the last of these batches were created
    device_seconds: without those of guards
    """

    key: VersionKey
    batches: int
    jobs: int
    tokens: int
    device_seconds: float
    first_used: datetime
    last_used: datetime


class NamedPipeline(NamedTuple):
    """A pipeline that recent batches name."""

    batches: int
    last_used: datetime


def list_versions(database: Database, pipeline: str, tenant: str | None = None) -> list[VersionUse]:
    """Return the model versions of the newest batches of a pipeline, the last used first.

    tenant: whose batches; None = all
    """
    condition, params = of_tenant(tenant)
    query = text(SELECT_BATCHES.format(of_tenant=condition)).columns(
        *map(column, ("model", "revision")),
        column("created_at", UtcDateTime),
        *map(column, ("jobs", "tokens", "device_seconds", "dtype", "device", "adapter", "adapter_revision")),
    )
    with database.read() as connection:
        rows = connection.execute(query, {"pipeline": pipeline, "limit": MAX_BATCHES, **params}).all()
    return sum_versions(rows)


def sum_versions(rows: Iterable[Any]) -> list[VersionUse]:
    """Sum batches by version. Pure."""
    by_key: dict[VersionKey, list[Any]] = {}
    for row in rows:
        key = VersionKey(row.model, row.revision, row.dtype, row.device, row.adapter, row.adapter_revision)
        by_key.setdefault(key, []).append(row)
    uses = [
        VersionUse(
            key,
            len(own),
            sum(row.jobs for row in own),
            sum(row.tokens for row in own),
            sum(row.device_seconds for row in own),
            min(row.created_at for row in own),
            max(row.created_at for row in own),
        )
        for key, own in by_key.items()
    ]
    return sorted(uses, key=lambda use: use.last_used, reverse=True)


def find_named_pipelines(database: Database, tenant: str | None = None) -> dict[str, NamedPipeline]:
    """Return the pipelines of the newest batches, also those that the catalogue no longer has.

    tenant: whose batches; None = all
    """
    condition, params = of_tenant(tenant)
    query = text(SELECT_NAMED.format(of_tenant=condition)).columns(
        column("pipeline"), column("batches"), column("last_used", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query, {"limit": NAMED_BATCHES, **params}).all()
    return {row.pipeline: NamedPipeline(row.batches, row.last_used) for row in rows}
