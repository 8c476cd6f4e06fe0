"""A run's summary: what `show` and `history` tell of it, and what later runs are held against."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.drift import changes, drift
from producer.schedules.quality.stats import Quality


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
