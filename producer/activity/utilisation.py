"""Utilisation: the share of the last minutes in which devices computed.

The seconds of a micro-batch count in the minute of its commit, so those that take minutes make the numbers jump.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import bindparam, text

from models.db import Database
from producer.activity.minutes import MINUTE_SECONDS, Span, read_span
from producer.activity.throughput import round_or_none
from producer.workers.workers import WorkerView

WINDOW_MINUTES = 5  # of the utilisation, with the current minute
SHOWN_MINUTES = 60

SELECT_BY_WORKER = """
SELECT minute, worker_id, CAST(sum(jobs) AS bigint) AS jobs, CAST(sum(tokens) AS bigint) AS tokens,
       sum(device_seconds) AS device_seconds
FROM activity WHERE minute >= :first AND minute <= :last AND worker_id IN :ids
GROUP BY minute, worker_id
"""
SELECT_RECENT_SECONDS = """
SELECT worker_id, sum(device_seconds) AS device_seconds
FROM activity WHERE minute >= :first AND minute <= :last AND worker_id <> ''
GROUP BY worker_id
"""


class WorkerMinute(NamedTuple):
    """What a worker did in a minute."""

    minute: int
    worker_id: str
    jobs: int
    tokens: int
    device_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """What a worker did in the last hour.

    utilisation: the share of the last five minutes, or of the time since it started, in which its device computed
    seconds_per_minute: device seconds of each minute, the oldest first
    jobs_per_second, tokens_per_second: over the minutes in which it worked; None if it did not
    """

    utilisation: float
    seconds_per_minute: tuple[float, ...]
    jobs: int
    jobs_per_second: float | None
    tokens_per_second: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that `batchmill workers --json` adds to a worker."""
        return {
            "utilisation": round(self.utilisation, 3),
            "jobs_per_second": round_or_none(self.jobs_per_second),
            "tokens_per_second": round_or_none(self.tokens_per_second),
        }


@dataclass(frozen=True, slots=True)
class DeviceActivity:
    """A device with the worker processes that share it.

    utilisation: the sum of its processes', at most 1: they may compute at the same time
    """

    host: str
    device: str
    processes: int
    utilisation: float


def read_utilisation(database: Database, workers: Iterable[WorkerView]) -> dict[str, float]:
    """Return the utilisation of each of these workers, by id; it reads one row for each."""
    with database.read() as connection:
        span = read_span(connection, WINDOW_MINUTES)
        rows = connection.execute(text(SELECT_RECENT_SECONDS), {"first": span.first, "last": span.last}).all()
    seconds = {row.worker_id: row.device_seconds for row in rows}
    return {worker.id: _share(span, worker.uptime_seconds, seconds.get(worker.id, 0.0)) for worker in workers}


def read_worker_activity(database: Database, workers: Iterable[WorkerView]) -> dict[str, WorkerActivity]:
    """Return what each of these workers did, by id; it reads up to 60 rows for each."""
    uptimes = {worker.id: worker.uptime_seconds for worker in workers}
    query = text(SELECT_BY_WORKER).bindparams(bindparam("ids", expanding=True))
    with database.read() as connection:
        span = read_span(connection, SHOWN_MINUTES)
        values = {"first": span.first, "last": span.last, "ids": list(uptimes)}
        rows = connection.execute(query, values).all() if uptimes else []
    by_worker: dict[str, list[WorkerMinute]] = {worker_id: [] for worker_id in uptimes}
    for row in rows:
        by_worker[row.worker_id].append(WorkerMinute(*row))
    return {worker_id: sum_up(span, uptimes[worker_id], minutes) for worker_id, minutes in by_worker.items()}


def sum_up(span: Span, uptime_seconds: float, minutes: Sequence[WorkerMinute]) -> WorkerActivity:
    """Sum up what a worker did. Pure."""
    first, last, elapsed = span.first, span.last, span.elapsed_seconds
    seconds = {minute.minute: minute.device_seconds for minute in minutes}
    computed = sum([seconds.get(minute, 0.0) for minute in range(last - WINDOW_MINUTES + 1, last + 1)])
    busy = MINUTE_SECONDS * len(seconds.keys() - {last}) + (elapsed if last in seconds else 0.0)
    busy_seconds = min(float(busy), max(1.0, uptime_seconds))
    jobs, tokens = sum([minute.jobs for minute in minutes]), sum([minute.tokens for minute in minutes])
    return WorkerActivity(
        _share(span, uptime_seconds, computed),
        tuple([seconds.get(minute, 0.0) for minute in range(first, last + 1)]),
        jobs,
        jobs / busy_seconds if jobs else None,
        tokens / busy_seconds if tokens else None,
    )


def _share(span: Span, uptime_seconds: float, computed_seconds: float) -> float:
    """The share of the last five minutes, or of the time since a worker started, in which it computed."""
    window_seconds = min((WINDOW_MINUTES - 1) * MINUTE_SECONDS + span.elapsed_seconds, max(1.0, uptime_seconds))
    return min(1.0, computed_seconds / window_seconds)


def sum_devices(workers: Iterable[WorkerView], shares: Mapping[str, float]) -> list[DeviceActivity]:
    """Sum the utilisation of the workers that are alive by device. Pure."""
    by_device: dict[tuple[str, str], list[float]] = {}
    for worker in workers:
        if worker.alive:
            by_device.setdefault((worker.host, worker.device), []).append(shares.get(worker.id, 0.0))
    return [
        DeviceActivity(host, device, len(own), min(1.0, sum(own))) for (host, device), own in sorted(by_device.items())
    ]
