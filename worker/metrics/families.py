"""The metrics of worker processes, by the names that Prometheus reads. Their labels have few values.

docs/reference/metrics.md has the same list, which a test compares.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.metrics import job_codes
from worker.metrics.recorder import MetricsRecorder

EXIT_OUTCOMES = ("crashed", "hung", "killed")
SHORT_REVISION = 12  # characters

MICRO_BATCH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
STATEMENT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
QUEUE_WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3_600, 14_400, 86_400)
# With negative buckets the client gives no sum and no count; the bucket +Inf is the count.
MARGIN_BUCKETS = (-3_600, -60, -1, 0, 1, 60, 600, 3_600, 14_400, 86_400)


class PrometheusRecorder(MetricsRecorder):
    """Keeps the measurements in a separate registry."""

    is_enabled = True

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of_pipeline = ("pipeline",)
        self._jobs = self._counter(
            "jobs",
            "Results that workers computed and stored; `code` is empty for `succeeded`. Jobs that were "
            "cancelled, expired or given up after crashes are not in it.",
            (*of_pipeline, "outcome", "code"),
        )
        self._retried = self._counter("jobs_retried", "Jobs that run again after a backoff.", of_pipeline)
        self._tokens = self._counter("tokens", "Tokens of the inputs that were answered.", of_pipeline)
        self._padding = self._counter("padding_tokens", "Tokens that were computed beside those.", of_pipeline)
        self._micro_batches = self._histogram(
            "micro_batch_seconds",
            "Device time of a forward pass; in generation, until the next rows were finished.",
            of_pipeline,
            MICRO_BATCH_BUCKETS,
        )
        self._busy = self._counter(
            "device_busy_seconds",
            "Time that the device computed for the `model` and for `guards`; its `rate()` is the utilisation.",
            (*of_pipeline, "kind"),
        )
        self._claims = self._histogram("claim_seconds", "A claim that leased slices.", of_pipeline, STATEMENT_BUCKETS)
        self._commits = self._histogram(
            "commit_seconds", "A transaction that stores results, with its repeats.", of_pipeline, STATEMENT_BUCKETS
        )
        self._queue_waits = self._histogram(
            "queue_wait_seconds",
            "From the beginning of a batch to the first claim of each of its slices; not for slices of a retry.",
            of_pipeline,
            QUEUE_WAIT_BUCKETS,
        )
        self._quarantined = self._counter("slices_quarantined", "Claims of slices that run alone.", of_pipeline)
        self._margins = self._histogram(
            "deadline_margin_seconds",
            "From a batch's end to its deadline; negative if it came too late. It has no `_sum`.",
            of_pipeline,
            MARGIN_BUCKETS,
        )
        self._ended = self._counter(
            "batches_ended",
            "Batches that ended with the commit of a worker, or `expired` in its maintenance.",
            (*of_pipeline, "status"),
        )
        self._verdicts = self._counter(
            "guard_verdicts", "Verdicts that were stored.", (*of_pipeline, "guard", "stage", "action")
        )
        self._wakeups = self._histogram(
            "wakeup_wait_seconds",
            "From receiving a wakeup to the look at SQL; a busy worker lets wakeups wait.",
            (),
            STATEMENT_BUCKETS,
        )
        self._reclaimed = self._counter(
            "slices_reclaimed",
            "Slices taken from workers that are gone: `requeued`, `split`, `dead_lettered`.",
            ("treatment",),
        )
        self._exits = self._counter(
            "worker_exits", "Ends of worker processes: `crashed`, `hung`, `killed`.", ("outcome",)
        )
        for outcome in EXIT_OUTCOMES:  # `increase()` does not see the first event of a new series
            self._exits.labels(outcome)
        self._models = Gauge(
            "batchmill_model_info",
            "1 for the pipeline on the device; `model` is a Hub id or the name of a folder, and "
            "`revision` has 12 characters.",
            (*of_pipeline, "model", "revision", "dtype", "device"),
            registry=self.registry,
        )

    def _counter(self, name: str, description: str, labels: Iterable[str]) -> Counter:
        return Counter(f"batchmill_{name}", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, labels: Iterable[str], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"batchmill_{name}", description, labels, buckets=buckets, registry=self.registry)

    def record_claim(self, pipeline: str, seconds: float, queue_waits: Iterable[float], quarantined: int) -> None:
        self._claims.labels(pipeline).observe(seconds)
        histogram = self._queue_waits.labels(pipeline)
        for wait in queue_waits:
            histogram.observe(wait)
        self._quarantined.labels(pipeline).inc(quarantined)

    def record_micro_batch(self, pipeline: str, seconds: float) -> None:
        self._micro_batches.labels(pipeline).observe(seconds)
        self._busy.labels(pipeline, "model").inc(seconds)

    def record_guard_time(self, pipeline: str, seconds: float) -> None:
        self._busy.labels(pipeline, "guards").inc(seconds)

    def record_commit(self, pipeline: str, seconds: float) -> None:
        self._commits.labels(pipeline).observe(seconds)

    def record_results(
        self, pipeline: str, succeeded: int, failures: Mapping[str, int], tokens: int, padded_tokens: int
    ) -> None:
        self._jobs.labels(pipeline, "succeeded", "").inc(succeeded)
        for code, count in failures.items():
            self._jobs.labels(pipeline, "failed", job_codes.label_for(code)).inc(count)
        self._tokens.labels(pipeline).inc(tokens)
        self._padding.labels(pipeline).inc(max(0, padded_tokens - tokens))

    def record_retries(self, pipeline: str, jobs: int) -> None:
        self._retried.labels(pipeline).inc(jobs)

    def record_verdicts(self, pipeline: str, verdicts: Mapping[tuple[str, str, str], int]) -> None:
        for labels, count in verdicts.items():
            self._verdicts.labels(pipeline, *labels).inc(count)

    def record_batch_end(self, pipeline: str, status: str, deadline_margin: float | None) -> None:
        self._ended.labels(pipeline, status).inc()
        if deadline_margin is not None:
            self._margins.labels(pipeline).observe(deadline_margin)

    def record_wakeup(self, seconds: float) -> None:
        self._wakeups.observe(seconds)

    def record_reclaim(self, requeued: int, split: int, dead_lettered: int) -> None:
        for treatment, count in (("requeued", requeued), ("split", split), ("dead_lettered", dead_lettered)):
            self._reclaimed.labels(treatment).inc(count)

    def record_exit(self, outcome: str) -> None:
        self._exits.labels(outcome).inc()

    def record_load(self, pipeline: str, model: str, revision: str, dtype: str, device: str) -> None:
        self._models.clear()
        short = revision.removeprefix("sha256:")[:SHORT_REVISION]
        self._models.labels(pipeline, model, short, dtype, device).set(1)

    def record_unload(self) -> None:
        self._models.clear()
