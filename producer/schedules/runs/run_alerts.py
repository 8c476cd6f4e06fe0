"""Summaries and alerts of runs that have ended."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from models import tasks
from models.dialects.columns import Document
from models.states import RunState
from producer.batches.views import BatchView
from producer.schedules.alerts import events
from producer.schedules.quality.drift import MAX_BASELINE_RUNS
from producer.schedules.quality.stats import QualityStats
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_summary import build_summary
from producer.schedules.runs.run_views import RunView

SELECT_PREVIOUS_SUMMARIES = """
SELECT summary FROM runs
WHERE schedule = :schedule AND scheduled_at < :scheduled_at AND state = 'completed' AND summary IS NOT NULL
ORDER BY scheduled_at DESC LIMIT :most
"""

SELECT_PREVIOUS_STATE = """
SELECT state FROM runs WHERE schedule = :schedule AND scheduled_at < :scheduled_at ORDER BY scheduled_at DESC LIMIT 1
"""

RECOVERABLE_STATES = (RunState.FAILED, RunState.MISSED)


def summarize_completed(
    connection: Connection, run: RunView, batch: BatchView, quality: QualityStats
) -> dict[str, Any]:
    """Return the summary of a completed run."""
    query = bind_datetimes(SELECT_PREVIOUS_SUMMARIES).columns(summary=Document)
    previous = connection.scalars(query, {**run.key, "most": MAX_BASELINE_RUNS}).all()
    spec = tasks.find_spec_if_known(batch.task)
    has_user_labels = spec is not None and "candidate_labels" in spec.parameters.model_fields
    summary = build_summary(
        quality, _duration_seconds(batch), batch.working_seconds, previous, has_user_labels=has_user_labels
    )
    return summary | {"model": batch.model, "revision": batch.revision}


def summarize_failed(batch: BatchView) -> dict[str, Any]:
    """Return the summary of a failed run, with the number of jobs by outcome."""
    counts = batch.counts
    return {
        "total": counts.total,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "expired": counts.expired,
        "cancelled": counts.cancelled,
        "guards": {guard.guard: guard.counts_by_outcome for guard in batch.guards},
        "seconds": round(_duration_seconds(batch), 3),
        "model": batch.model,
        "revision": batch.revision,
    }


def record_alerts(connection: Connection, run: RunView, run_summary: dict[str, Any], now: datetime) -> None:
    """Record the events of a completed run."""
    alerts = []
    drift = run_summary["drift"]
    max_drift = run.definition.get("alert_drift")
    if max_drift is not None and drift is not None and drift["worst"] > max_drift:
        alerts.append(("drift", drift["sentence"]))
    if run_summary["changed"]:
        alerts.append(("model_changed", run_summary["changed"]))
    if connection.scalar(bind_datetimes(SELECT_PREVIOUS_STATE), run.key) in RECOVERABLE_STATES:
        alerts.append(("recovered", f"{run_summary['total']:,} rows, after an unsuccessful run"))
    for kind, message in alerts:
        record_run_event(connection, run, kind, message, now)


def record_run_event(
    connection: Connection, run: RunView, kind: str, message: str, now: datetime, error_code: str | None = None
) -> None:
    """Record an event of a run, once for each kind, and send it to the webhook that the run was planned with."""
    events.record_event(
        connection,
        run.schedule,
        run.scheduled_at,
        kind,
        message if error_code is None else f"{error_code}: {message}",
        occurred_at=now,
        url=run.definition.get("webhook"),
        error_code=error_code,
    )


def _duration_seconds(batch: BatchView) -> float:
    created_at, ended_at = batch.timestamps["created_at"], batch.timestamps.get(f"{batch.status.value}_at")
    return (ended_at - created_at).total_seconds() if created_at and ended_at else 0.0
