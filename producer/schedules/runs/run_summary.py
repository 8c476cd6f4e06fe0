"""The summary of a run, for display and as the baseline of later runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.pipelines import redaction
from producer.schedules.quality.drift import describe_model_change, measure_drift
from producer.schedules.quality.stats import QualityStats


def build_summary(
    current: QualityStats,
    seconds: float,
    working_seconds: float,
    previous: Sequence[Mapping[str, Any]] = (),
    *,
    has_user_labels: bool = False,
) -> dict[str, Any]:
    """Build the summary of a run, as it is stored in JSON.

    `computed` and `rows_per_second` count neither reused nor failed rows. `changed` is a sentence, or None if the
    models are those of the run before.

    current: statistics of the run's results
    seconds: time from the batch's creation to its end
    working_seconds: time in which at least one worker held rows of the batch, for the pace
    previous: summaries of earlier completed runs, newest first
    has_user_labels: whether labels are people's own texts, which `redact_summary` must hash
    """
    baseline = [QualityStats.from_dict(summary["quality"]) for summary in previous if summary.get("quality")]
    return {
        "total": current.rows,
        "reused": current.reused,
        "computed": current.computed_rows,
        "succeeded": current.succeeded,
        "failed": current.failed,
        "truncated": current.truncated,
        "guards": current.guards,
        "seconds": round(seconds, 3),
        "rows_per_second": round(current.computed_rows / working_seconds, 1) if working_seconds > 0 else None,
        "quality": current.as_dict(),
        **({"own_labels": True} if has_user_labels else {}),
        "drift": measure_drift(current, baseline, redact_labels=has_user_labels).as_dict() if baseline else None,
        "changed": describe_model_change(current, baseline),
    }


def without_mean_vector(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a summary for output without its mean vector, which is long and only for comparison."""
    if summary is None or not (summary.get("quality") or {}).get("vectors"):
        return None if summary is None else dict(summary)
    quality = summary["quality"]
    vectors = {name: value for name, value in quality["vectors"].items() if name != "mean"}
    return {**summary, "quality": {**quality, "vectors": vectors}}


def redact_summary(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a summary for default output, with labels hashed if they are people's own texts."""
    redacted = without_mean_vector(summary)
    if redacted is None or not redacted.get("own_labels") or not redacted.get("quality"):
        return redacted
    quality = redacted["quality"]
    labels = {redaction.redact_value(label): count for label, count in quality["labels"].items()}
    return {**redacted, "quality": {**quality, "labels": labels}}
