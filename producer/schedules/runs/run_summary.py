"""A run's summary: what `show` and `history` tell of it, and what later runs are held against."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from models import tasks
from models.columns import Document
from models.pipelines import redaction
from models.states import RunState
from producer.batches.views import BatchView
from producer.schedules.alerts import events
from producer.schedules.definition import Schedule
from producer.schedules.quality.drift import MOST_RUNS, changes, drift
from producer.schedules.quality.stats import Quality
from producer.schedules.runs.run_lease import at_moments
from producer.schedules.runs.run_views import RunView


def summary(
    now: Quality, seconds: float, before: Sequence[Mapping[str, Any]] = (), *, own_labels: bool = False
) -> dict[str, Any]:
    """The numbers of a run as JSON has them; `before` are the summaries of earlier runs that completed, newest first.

    `seconds` went from the batch's start to its last result; `rows_per_second` counts what was computed in them.
    `own_labels`: the labels are people's own texts, for `shown` to hash. `changed` is a sentence, or null where the
    same models answered as in the run before.
    """
    earlier = [Quality.of(one["quality"]) for one in before if one.get("quality")]
    return {
        "total": now.rows,
        "reused": now.reused,
        "computed": now.computed,
        "succeeded": now.succeeded,
        "failed": now.failed,
        "truncated": now.truncated,
        "seconds": round(seconds, 3),
        "rows_per_second": round(now.computed / seconds, 1) if seconds > 0 else None,
        "quality": now.as_dict(),
        **({"own_labels": True} if own_labels else {}),
        "drift": drift(now, earlier, hides_labels=own_labels).as_dict() if earlier else None,
        "changed": next((changes(now, one) for one in earlier if one.versions), None),
    }


def shown(stored: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A summary for output that nobody asked labels of: those that are people's own texts as hashes."""
    if stored is None or not stored.get("own_labels") or not stored.get("quality"):
        return None if stored is None else dict(stored)
    quality = stored["quality"]
    labels = {redaction.value(label): count for label, count in quality["labels"].items()}
    return {**stored, "quality": {**quality, "labels": labels}}


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
