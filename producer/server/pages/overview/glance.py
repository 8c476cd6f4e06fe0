"""What the first page shows, each read when a part of the page needs it, and once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from models import clock
from models.error_catalogue import explain
from producer.activity import (
    attention,
    attention_facts,
    backlog_views,
    failing_batches,
    failures,
    throughput,
    utilisation,
)
from producer.activity.attention import Attention, Facts, TroubledBatch
from producer.activity.backlog_views import BacklogView
from producer.activity.throughput import HOUR_MINUTES, Throughput
from producer.activity.utilisation import DeviceActivity, WorkerActivity
from producer.batches import blockers, views
from producer.batches.batch_view import BatchView
from producer.batches.blockers import LoadFailureView
from producer.batches.listing import BatchFilter
from producer.server.context import ServerContext
from producer.server.native import shown
from producer.server.pages.overview import attention_links
from producer.server.pages.overview.chart import Line, chart_lines
from producer.workers import workers
from producer.workers.workers import WorkerView

NEWEST = 8
MAX_CODES = 8
BATCHES_OF_A_CODE = 3
MAX_WORKERS = 8


@dataclass(frozen=True)
class Glance:
    """The deployment, or one tenant's part of it, at one moment.

    tenant: None = all of it; a tenant sees no workers and devices, which are the operator's
    """

    context: ServerContext
    tenant: str | None

    @cached_property
    def workers(self) -> list[WorkerView]:
        """Every worker process."""
        return workers.list_workers(self.context.database, self.context.settings.lease_seconds)

    @cached_property
    def alive_workers(self) -> int:
        """Those with heartbeats."""
        return sum(worker.alive for worker in self.workers)

    @cached_property
    def shown_workers(self) -> list[tuple[WorkerView, WorkerActivity]]:
        """The first workers, each with what it does; those that are gone come last."""
        shown = sorted(self.workers, key=lambda worker: not worker.alive)[:MAX_WORKERS]
        activities = utilisation.read_worker_activity(self.context.database, shown)
        return [(worker, activities[worker.id]) for worker in shown]

    @cached_property
    def worker_states(self) -> list[tuple[str, int]]:
        """How many workers are in each state, that of most first."""
        return Counter(worker.state if worker.alive else "gone" for worker in self.workers).most_common()

    @cached_property
    def devices(self) -> list[DeviceActivity]:
        """The devices of the workers that are alive."""
        shares = utilisation.read_utilisation(self.context.database, self.workers)
        return utilisation.sum_devices(self.workers, shares)

    @cached_property
    def utilisation(self) -> float | None:
        """The mean of the devices; None without any."""
        return sum(device.utilisation for device in self.devices) / len(self.devices) if self.devices else None

    @cached_property
    def load_failures(self) -> list[LoadFailureView]:
        """What workers can't load."""
        return blockers.list_load_failures(self.context.database)

    @cached_property
    def throughput(self) -> Throughput:
        """Of the last hour."""
        return throughput.read_throughput(self.context.database, HOUR_MINUTES, self.tenant)

    @cached_property
    def chart_times(self) -> Sequence[datetime]:
        """The minutes of the chart."""
        return self.throughput.span.starts[: len(self.chart_lines[0].values)] if self.chart_lines else ()

    @cached_property
    def chart_lines(self) -> list[Line]:
        """A line for each pipeline that worked."""
        return chart_lines(self.throughput)

    @cached_property
    def backlogs(self) -> list[BacklogView]:
        """The pipelines with open work."""
        return backlog_views.list_backlogs(self.context.database, self.workers, self.load_failures, self.tenant)

    @cached_property
    def unanswered_jobs(self) -> int:
        """Of all pipelines."""
        return sum(item.backlog.unanswered_jobs for item in self.backlogs)

    @cached_property
    def open_batches(self) -> int:
        """Of all pipelines."""
        return sum(item.backlog.open_batches for item in self.backlogs)

    @cached_property
    def oldest_seconds(self) -> float | None:
        """The age of the oldest open batch."""
        return max((item.backlog.oldest_age_seconds for item in self.backlogs), default=None)

    def reasons(self, item: BacklogView) -> list[dict[str, str]]:
        """Why a pipeline's oldest batch waits, as its reader may see it."""
        return shown.blocker_objects(item.reasons, item.pipeline, self.tenant)

    @cached_property
    def facts(self) -> Facts:
        """What the list of what needs attention is decided from."""
        now = clock.clock_for(self.context.settings, self.context.database)()
        facts = attention_facts.read_facts(
            self.context.database, now, self.backlogs, (self.workers, self.load_failures), self.throughput, self.tenant
        )
        return facts if self.tenant is not None else replace(facts, redis_trouble=self.context.redis.trouble())

    @cached_property
    def attention(self) -> list[tuple[Attention, str]]:
        """What needs attention, each with the address where one acts."""
        return [(item, attention_links.address_of(item)) for item in attention.decide_attention(self.facts)]

    @cached_property
    def failures(self) -> list[dict[str, Any]]:
        """The codes of the last hour's failures, each with its meaning and the batches that have them."""
        counts = failures.count_failures(self.context.database, HOUR_MINUTES, self.tenant)
        by_code = failing_batches.find_by_code(self.context.database, self.facts.batches) if counts else {}
        return [
            {
                "count": count,
                "title": explain(count.error_code).title,
                "share": count.jobs / self.throughput.jobs if self.throughput.jobs else None,
                "batches": by_code.get(count.error_code, [])[:BATCHES_OF_A_CODE],
            }
            for count in counts[:MAX_CODES]
        ]

    @cached_property
    def failing_batches(self) -> list[TroubledBatch]:
        """The batches of the last day with the most failed jobs; those include rows that were invalid."""
        return sorted((batch for batch in self.facts.batches if batch.failed), key=lambda batch: -batch.failed)

    @cached_property
    def newest(self) -> list[BatchView]:
        """The newest batches."""
        batch_filter = BatchFilter(tenant=self.tenant, hides_deleting=True)
        return views.list_batches(self.context.database, NEWEST, batch_filter)
