"""What a run leaves for people: a summary beside those of earlier runs, and alerts."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from models import tasks
from models.columns import Document
from models.states import RunState
from producer.batches.views import BatchView
from producer.schedules.alerts import events
from producer.schedules.definition import Schedule
from producer.schedules.quality.drift import MOST_RUNS
from producer.schedules.quality.stats import Quality
from producer.schedules.runs.run_lease import at_moments
from producer.schedules.runs.run_summary import summary
from producer.schedules.runs.run_views import RunView

BEFORE = """
SELECT summary FROM runs WHERE schedule = :schedule AND slot < :slot AND state = 'completed' AND summary IS NOT NULL
ORDER BY slot DESC LIMIT :most
"""

LAST = "SELECT state FROM runs WHERE schedule = :schedule AND slot < :slot ORDER BY slot DESC LIMIT 1"

MADE_GOOD = (RunState.FAILED, RunState.MISSED)


def summed_up(connection: Connection, run: RunView, batch: BatchView, found: Quality) -> dict[str, Any]:
    """The summary of a run that completed."""
    query = at_moments(BEFORE).columns(summary=Document)
    before = connection.scalars(query, {**run.key, "most": MOST_RUNS}).all()
    own_labels = "candidate_labels" in tasks.find(batch.task).parameters.model_fields
    return summary(found, _seconds(batch), before, own_labels=own_labels) | {
        "model": batch.model,
        "revision": batch.revision,
    }


def counted(batch: BatchView) -> dict[str, Any]:
    """The summary of a run that failed: how many jobs came to what."""
    counts = batch.counts
    return {
        "total": counts.total, "succeeded": counts.completed, "failed": counts.failed, "expired": counts.expired,
        "cancelled": counts.cancelled, "seconds": round(_seconds(batch), 3), "model": batch.model,
        "revision": batch.revision,
    }  # fmt: skip


def tell(connection: Connection, definition: Schedule, run: RunView, made: dict[str, Any], now: datetime) -> None:
    """Note what a person should hear of a run that completed."""
    told = []
    moved = made["drift"]
    if definition.alert_drift is not None and moved is not None and moved["worst"] > definition.alert_drift:
        told.append(("drift", moved["sentence"]))
    if made["changed"]:
        told.append(("model_changed", made["changed"]))
    if connection.scalar(at_moments(LAST), run.key) in MADE_GOOD:
        told.append(("recovered", f"{made['total']:,} rows, after a slot that came to nothing"))
    for kind, message in told:
        events.note(connection, run.schedule, run.slot, kind, message, at=now, url=definition.webhook)


def tell_failed(connection: Connection, definition: Schedule, run: RunView, message: str, now: datetime) -> None:
    """Note that a run failed."""
    events.note(connection, run.schedule, run.slot, "failed", message, at=now, url=definition.webhook)


def _seconds(batch: BatchView) -> float:
    began, ended = batch.moments["created_at"], batch.moments.get(f"{batch.status.value}_at")
    return (ended - began).total_seconds() if began and ended else 0.0
