"""Verdicts on one run: whether it was late, and whether its results have drifted. Pure."""

from datetime import timedelta

from models.states import RunState, RunTrigger
from producer.schedules.runs.run_views import RunView

MIN_CATCHUP_DELAY = timedelta(minutes=5)  # a run planned later than this was caught up, because no worker was up


def has_drifted(run: RunView) -> bool:
    """Return whether results have drifted further than the schedule allows."""
    limit, drift = run.definition.get("alert_drift"), (run.summary or {}).get("drift")
    return limit is not None and drift is not None and drift["worst"] > limit


def describe_lateness(run: RunView) -> str | None:
    """Describe a late start and a late end of a run; None if it was on time."""
    parts = []
    if (
        run.started_at is not None
        and run.trigger is RunTrigger.CRON
        and run.planned_at - run.scheduled_at > MIN_CATCHUP_DELAY
    ):
        parts.append(f"caught up {format_duration(run.planned_at - run.scheduled_at)} late")
    margin = time_left(run)
    if margin is not None and margin < timedelta():
        parts.append(f"done {format_duration(-margin)} after its deadline")
    return ", ".join(parts) or None


def time_left(run: RunView) -> timedelta | None:
    """Return the time from a run's completion to its deadline; negative if it was late."""
    if run.state is not RunState.COMPLETED or run.finished_at is None or run.deadline_at is None:
        return None
    return run.deadline_at - run.finished_at


def format_duration(span: timedelta) -> str:
    """Format a duration to the minute."""
    hours, minutes = divmod(round(span.total_seconds() / 60), 60)
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count) or "a moment"
