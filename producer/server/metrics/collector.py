"""The collector turns numbers of the database into metrics, a few seconds old at most."""

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.errors import BatchmillError
from producer.schedules import metrics as schedule_metrics
from producer.server.metrics.database_numbers import DatabaseNumbers

CACHE_SECONDS = 5.0  # several scrapers, or a dashboard that is reloaded, cost no more than one
DATABASE_UP = ("batchmill_database_up", "1 if the database answers; if not, only this and the requests are shown.")


class DatabaseCollector(Collector):
    """Reads the database when it is scraped, at most once in CACHE_SECONDS.

    Without a database only `batchmill_database_up` is left, so that no gauge shows a number of the past.
    """

    def __init__(self, read: Callable[[], DatabaseNumbers], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._latest: DatabaseNumbers | None = None
        self._read_at = float("-inf")

    def describe(self) -> list[GaugeMetricFamily]:
        """Registering reads nothing."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the families."""
        numbers = self._numbers()
        is_up = GaugeMetricFamily(*DATABASE_UP)
        is_up.add_metric((), float(numbers is not None))
        yield is_up
        if numbers is not None:
            yield from _backlog_families(numbers)
            yield from _process_families(numbers)
            yield from _schedule_families(numbers)

    def _numbers(self) -> DatabaseNumbers | None:
        with self._lock:
            if self._clock() - self._read_at > CACHE_SECONDS:
                try:
                    self._latest = self._read()
                except BatchmillError:
                    self._latest = None
                self._read_at = self._clock()
            return self._latest


def _backlog_families(numbers: DatabaseNumbers) -> Iterator[GaugeMetricFamily]:
    for name, description, attribute in (
        ("queued_slices", "Slices that wait for a worker, or for the end of a backoff.", "queued_slices"),
        ("leased_slices", "Slices that workers hold.", "leased_slices"),
        ("unanswered_jobs", "Jobs without a result.", "unanswered_jobs"),
        ("open_batches", "Batches that have not ended.", "open_batches"),
        ("oldest_batch_age_seconds", "Age of the oldest of them.", "oldest_age_seconds"),
    ):
        family = GaugeMetricFamily(f"batchmill_{name}", description, labels=("pipeline",))
        for pipeline, backlog in numbers.backlogs.items():
            family.add_metric((pipeline,), getattr(backlog, attribute))
        yield family
    family = GaugeMetricFamily(
        "batchmill_next_deadline_seconds", "Until the nearest deadline of a batch in progress.", labels=("pipeline",)
    )
    for pipeline, seconds in numbers.seconds_to_deadline.items():
        family.add_metric((pipeline,), seconds)
    yield family


def _process_families(numbers: DatabaseNumbers) -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(
        "batchmill_workers",
        "Worker processes by the pipeline that they have loaded; `gone` without heartbeats.",
        labels=("pipeline", "state"),
    )
    for labels, count in numbers.worker_counts.items():
        family.add_metric(labels, count)
    yield family
    family = GaugeMetricFamily(
        "batchmill_maintenance_failures_in_a_row",
        "Failures of a maintenance task since its last success.",
        labels=("task",),
    )
    for task, failures in numbers.maintenance_failures.items():
        family.add_metric((task,), failures)
    yield family
    family = GaugeMetricFamily(
        "batchmill_webhooks_undelivered",
        "Events of a `batch` or a `schedule` that were sent in vain and will be sent again.",
        labels=("kind",),
    )
    for kind, count in numbers.undelivered.items():
        family.add_metric((kind,), count)
    yield family


def _schedule_families(numbers: DatabaseNumbers) -> Iterator[GaugeMetricFamily]:
    for family in schedule_metrics.FAMILIES:
        gauge = GaugeMetricFamily(family.full_name, family.description)
        for labels, value in family.samples_of(numbers.schedules):
            gauge.add_sample(family.full_name, labels, value)
        yield gauge
