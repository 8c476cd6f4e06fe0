"""The parts of the page of one batch: what each shows, read at a cost that does not grow with the batch.

Each function takes the context, the principal and the batch, so that a part can be rendered alone.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from models.error_catalogue import explain_batch
from models.errors import NotFound
from models.states import BatchStatus
from producer.batches import blockers
from producer.batches.actions import followers
from producer.batches.batch_view import BatchView
from producer.batches.progress import progress_tracker
from producer.batches.progress.eta import Eta
from producer.batches.reading_state import find_reading_state
from producer.results import attempts
from producer.results.summaries import failure_groups, marks, samples
from producer.results.summaries.cache import ResultsState, SummaryCache, find_last_seq
from producer.results.summaries.distribution import Distribution, distribution_of
from producer.results.summaries.failure_groups import ALL, MAX_COUNTED, FailureGroup, Failures
from producer.results.summaries.pace_curve import estimate_rest, pace_curve
from producer.schedules.runs import run_views
from producer.server.context import ServerContext
from producer.server.native import shown
from producer.server.pages.batches import batch_facts
from producer.tenants.principal import Principal
from producer.uploads import files
from producer.uploads.files import FileView
from producer.webhooks import batch_deliveries

MAX_ATTEMPTS = 20
MAX_INPUT_ERRORS = 100

Values = dict[str, Any]
Part = Callable[[ServerContext, Principal, BatchView], Values]

_summaries = SummaryCache()


def progress_values(context: ServerContext, principal: Principal, batch: BatchView) -> Values:
    """How far, how fast, until when; and why it waits or what it failed of."""
    settings = context.settings
    workers = progress_tracker.list_active_workers(context.database, batch.id) if batch.is_running else ()
    reasons = (
        [] if workers else blockers.find_blockers(context.database, batch, settings.lease_seconds, settings.home_path)
    )
    eta = _estimate(context, batch)
    now = datetime.now(UTC)
    return {
        "batch": batch,
        "eta": eta,
        "average_seconds": _average_seconds(batch),
        "workers": workers,
        "blockers": shown.blocker_objects(reasons, batch.pipeline, principal.tenant),
        "explanation": explain_batch(batch.error_code) if batch.error_code else None,
        "elapsed_seconds": _elapsed_seconds(batch, now),
        "input_errors": batch.input_errors[:MAX_INPUT_ERRORS],
        "misses_deadline": _misses_deadline(batch, eta, now),
        "reading": find_reading_state(context.database, batch),
        "source_file": find_source_file(context, principal, batch),
    }


def pace_values(context: ServerContext, _principal: Principal, batch: BatchView) -> Values:
    """The pace over time."""
    found = marks.read_marks(context.database, batch.id)
    is_waiting = batch.status is BatchStatus.IN_PROGRESS and not batch.is_running
    return {"batch": batch, "curve": pace_curve(found, datetime.now(UTC) if is_waiting else None)}


def distribution_values(context: ServerContext, principal: Principal, batch: BatchView) -> Values:
    """Labels, scores, lengths and entities, and the model versions that computed them."""
    database = context.database

    def read() -> Distribution:
        return distribution_of(samples.read_sample(database, batch.id, batch.counts.ended))

    distribution = _summaries.get(("distribution", database.url, batch.id), _state(context, batch), read)
    versions = samples.read_versions(database, distribution.versions)
    hidden = [(shown.hide_folders(version._asdict(), principal.tenant), count) for version, count in versions]
    return {"batch": batch, "distribution": distribution, "versions": hidden}


def failures_values(
    context: ServerContext, _principal: Principal, batch: BatchView, *, is_exact: bool = False
) -> Values:
    """The failures by code.

    is_exact: count all, which takes seconds where there are very many
    """
    database, failed = context.database, batch.counts.failed
    most = ALL if is_exact else MAX_COUNTED

    def read() -> Failures:
        return failure_groups.count_failures(database, batch.id, failed, most)

    failures = _summaries.get(("failures", most, database.url, batch.id), _state(context, batch), read)
    return {
        "batch": batch,
        "failures": failures,
        "reading": find_reading_state(database, batch),
        "examples": {g.example.position: _example_input(g) for g in failures.groups},
    }


def attempts_values(context: ServerContext, principal: Principal, batch: BatchView) -> Values:
    """The last claims that did not simply succeed."""
    found = attempts.list_attempts(context.database, batch.id, MAX_ATTEMPTS)
    return {"batch": batch, "attempts": found[::-1], "shows_workers": principal.tenant is None}


def facts_values(context: ServerContext, principal: Principal, batch: BatchView) -> Values:
    """What runs and how, where it came from, and what it cost."""
    database = context.database
    document = shown.batch_object(batch, principal.tenant)
    run = run_views.run_of_batch(database, batch.id)
    return {
        "batch": batch,
        "source_file": find_source_file(context, principal, batch),
        "document": document,
        "parameters": batch_facts.pairs_of(document["parameters"]),
        "metadata": batch_facts.pairs_of(batch.metadata),
        "seconds_per_1000": batch_facts.device_seconds_per_1000(batch),
        "run": run,
        "followers": followers.list_followers(database, batch.id),
        "deliveries": batch_deliveries.list_deliveries(database, batch.id) if batch.webhook_url else [],
    }


PARTS: Mapping[str, tuple[str, Part]] = {
    "progress": ("batches/_progress.html", progress_values),
    "failures": ("batches/_failures.html", failures_values),
    "pace": ("batches/_pace.html", pace_values),
    "distribution": ("batches/_distribution.html", distribution_values),
    "attempts": ("batches/_attempts.html", attempts_values),
    "facts": ("batches/_facts.html", facts_values),
}


def find_source_file(context: ServerContext, principal: Principal, batch: BatchView) -> FileView | None:
    """The uploaded file that a batch is read from, if it can be submitted again."""
    if batch.input_file_id is None:
        return None
    try:
        file = files.get_file(context.database, batch.input_file_id, principal.tenant)
    except NotFound:
        return None
    return file if file.location is not None else None


def _estimate(context: ServerContext, batch: BatchView) -> Eta | None:
    if not batch.is_running or not batch.counts.ended:
        return None
    return estimate_rest(marks.read_marks(context.database, batch.id, with_recent=True), batch.counts.unanswered)


def _misses_deadline(batch: BatchView, eta: Eta | None, now: datetime) -> bool:
    deadline = batch.timestamps["expires_at"]
    return eta is not None and deadline is not None and now + timedelta(seconds=eta.seconds) > deadline


def _average_seconds(batch: BatchView) -> float | None:
    """Seconds for the rest at the average pace so far."""
    if not batch.is_running or not batch.jobs_per_second:
        return None
    return batch.counts.unanswered / batch.jobs_per_second


def _elapsed_seconds(batch: BatchView, now: datetime) -> float:
    times = batch.timestamps
    ends = [times[f"{status}_at"] for status in ("completed", "failed", "expired", "cancelled")]
    ended_at = next((time for time in ends if time is not None), now) if batch.status.has_ended else now
    created_at = times["created_at"] or now
    return max(0.0, (ended_at - created_at).total_seconds())


def _state(context: ServerContext, batch: BatchView) -> ResultsState:
    return ResultsState(find_last_seq(context.database, batch.id), batch.counts)


def _example_input(group: FailureGroup) -> str:
    return batch_facts.first_text(group.example.input_text)
