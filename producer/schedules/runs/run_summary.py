"""A run's summary: what `show` and `history` tell of it, and what later runs are held against."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.drift import describe_model_change, measure_drift
from producer.schedules.quality.stats import QualityStats


def build_summary(
    current: QualityStats, seconds: float, previous: Sequence[Mapping[str, Any]] = (), *, has_user_labels: bool = False
) -> dict[str, Any]:
    """The numbers of a run as JSON has them; `before` are the summaries of earlier runs that completed, newest first.

    `seconds` went from the batch's start to its last result; `rows_per_second` counts what was computed in them.
    `own_labels`: the labels are people's own texts, for `shown` to hash. `changed` is a sentence, or null where the
    same models answered as in the run before.
    """
    earlier = [QualityStats.from_dict(one["quality"]) for one in previous if one.get("quality")]
    return {
        "total": current.rows,
        "reused": current.reused,
        "computed": current.computed_rows,
        "succeeded": current.succeeded,
        "failed": current.failed,
        "truncated": current.truncated,
        "seconds": round(seconds, 3),
        "rows_per_second": round(current.computed_rows / seconds, 1) if seconds > 0 else None,
        "quality": current.as_dict(),
        **({"own_labels": True} if has_user_labels else {}),
        "drift": measure_drift(current, earlier, redact_labels=has_user_labels).as_dict() if earlier else None,
        "changed": next((describe_model_change(current, one) for one in earlier if one.versions), None),
    }


def redact_summary(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A summary for output that nobody asked labels of: those that are people's own texts as hashes."""
    if summary is None or not summary.get("own_labels") or not summary.get("quality"):
        return None if summary is None else dict(summary)
    quality = summary["quality"]
    labels = {redaction.redact_value(label): count for label, count in quality["labels"].items()}
    return {**summary, "quality": {**quality, "labels": labels}}
