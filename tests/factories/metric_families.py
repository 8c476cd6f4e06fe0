"""Every metric of workers and servers, each with one sample at least."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from models.states import RunState
from producer.schedules.metrics import ScheduleMetrics
from producer.server.metrics.collector import DatabaseCollector
from producer.server.metrics.database_numbers import DatabaseNumbers
from producer.server.metrics.http_requests import HttpMetrics
from producer.workers.backlog import PipelineBacklog
from worker.metrics.families import PrometheusRecorder


def worker_registry() -> CollectorRegistry:
    """The metrics of a worker process."""
    recorder = PrometheusRecorder()
    recorder.record_claim("p", 0.1, [1.0], 1)
    recorder.record_micro_batch("p", 0.1)
    recorder.record_guard_time("p", 0.1)
    recorder.record_commit("p", 0.1)
    recorder.record_results("p", 1, {"no_mask": 1}, 10, 12)
    recorder.record_retries("p", 1)
    recorder.record_verdicts("p", {("g", "input", "flag"): 1})
    recorder.record_batch_end("p", "completed", -1.0)
    recorder.record_wakeup(0.1)
    recorder.record_reclaim(1, 1, 1)
    recorder.record_exit("crashed")
    recorder.record_load("p", "m", "a" * 40, "float32", "cpu")
    return recorder.registry


def server_registry() -> CollectorRegistry:
    """The metrics of a server."""
    registry = CollectorRegistry()
    http = HttpMetrics(registry)
    http.requests.labels("/healthz", "GET", "2xx").inc()
    http.seconds.labels("/healthz", "GET").observe(0.1)
    summary = {
        "total": 3,
        "failed": 1,
        "reused": 1,
        "seconds": 2.0,
        "guards": {"g": {"flagged": 1}},
        "drift": {"worst": 0.1},
    }
    moment = datetime(2026, 11, 30, tzinfo=UTC)
    schedule = ScheduleMetrics("s", {RunState.COMPLETED.value: 1}, moment, 0.0, summary)
    backlog = PipelineBacklog(1, 1, 8, 1, moment, 5.0)
    numbers = DatabaseNumbers({"p": backlog}, {"p": 9.0}, {("p", "ready"): 1}, {"t": 0}, {"batch": 0}, [schedule])
    registry.register(DatabaseCollector(lambda: numbers))
    return registry


def metric_families(registry: CollectorRegistry) -> dict[str, Metric]:
    """The families that Prometheus reads, by the name that queries use."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for family in families
        if not family.name.endswith("_created")
    }
