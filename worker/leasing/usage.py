"""Usage is counted in the transaction that stores results, so it equals what was computed, whatever is killed.

Lock order: the rows of `usage` come last, by tenant and pipeline, and after them only those of `activity`. A
transaction locks no batch and no slice after them.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text

SHARDS = 16  # of each day's row, so that workers rarely wait for each other

# The day is the one of the commit, by the database's clock.
TODAY = {
    "postgresql": "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "sqlite": "strftime('%Y-%m-%d', 'now')",
}
ADD_USAGE = """
INSERT INTO usage (day, tenant, pipeline, shard, succeeded, failed, tokens, padded_tokens, device_seconds)
VALUES ({today}, :tenant, :pipeline, :shard, :succeeded, :failed, :tokens, :padded_tokens, :device_seconds)
ON CONFLICT (day, tenant, pipeline, shard) DO UPDATE SET
    succeeded = usage.succeeded + excluded.succeeded, failed = usage.failed + excluded.failed,
    tokens = usage.tokens + excluded.tokens, padded_tokens = usage.padded_tokens + excluded.padded_tokens,
    device_seconds = usage.device_seconds + excluded.device_seconds
"""
COUNTERS = ("succeeded", "failed", "tokens", "padded_tokens", "device_seconds")


@dataclass(frozen=True, slots=True)
class ComputedWork:
    """What a commit has stored of one batch, and what that cost.

    device_seconds: with those of the guards' models
    failures: error codes, each with its number of failed jobs
    """

    tenant: str
    pipeline: str
    succeeded: int
    failed: int
    tokens: int
    padded_tokens: int
    device_seconds: float
    failures: tuple[tuple[str, int], ...] = ()


def add_usage(connection: Connection, works: Iterable[ComputedWork], worker_id: str) -> None:
    """Add the work to the tenants' usage of today, at the end of a transaction."""
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for work in works:
        counters = sums.setdefault((work.tenant, work.pipeline), dict.fromkeys(COUNTERS, 0))
        for name in COUNTERS:
            counters[name] += getattr(work, name)
    shard = zlib.crc32(worker_id.encode()) % SHARDS
    statement = text(ADD_USAGE.format(today=TODAY[connection.dialect.name]))
    for (tenant, pipeline), counters in sorted(sums.items()):
        connection.execute(statement, {"tenant": tenant, "pipeline": pipeline, "shard": shard, **counters})
