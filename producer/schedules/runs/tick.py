"""A tick, which does all due work of schedules, from planning runs to finishing them.

Any number of ticks may run at once and crash anywhere. Every step is one transaction, or the next tick restarts it.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import BatchStatus
from producer.schedules.runs import deadline_watch, finish, planning, read_source, run_errors, run_views
from producer.schedules.runs.deadline_watch import STEP as WATCHING
from producer.schedules.runs.finish import STEP as FINISHING
from producer.schedules.runs.following import opening
from producer.schedules.runs.following.opening import STEP as OPENING
from producer.schedules.runs.read_source import STEP as READING
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TickResult:
    """The work that was done: times evaluated, sources read and runs ended."""

    evaluated: int
    sources_read: int
    runs_ended: int

    def __bool__(self) -> bool:
        """Return whether there was anything to do."""
        return bool(self.evaluated or self.sources_read or self.runs_ended)


def run_once(database: Database, settings: Settings, catalogue: Catalogue, now: datetime) -> TickResult:
    """Do all work that is due at `now`; an error in one schedule is logged and does not stop the others.

    Raises Unreachable if our own database is unreachable.
    """
    plans = planning.plan_due_schedules(database, catalogue, now)
    for plan in plans:
        counts = {"runs": len(plan.runs), "skipped": len(plan.skipped), "missed": plan.missed_count}
        log.info("schedule.evaluated", schedule=plan.schedule, **counts)
    read_source.mark_started_runs(database, now)
    read_count, ended_count = _process_due_runs(database, settings, catalogue, now)
    evaluated = sum(len(plan.runs) + len(plan.skipped) + plan.missed_count for plan in plans)
    return TickResult(evaluated, read_count, ended_count)


def _process_due_runs(database: Database, settings: Settings, catalogue: Catalogue, now: datetime) -> tuple[int, int]:
    """Do each due step once, until none is left; the end of one run may let the next one start."""
    counts = {"read": 0, "ended": 0}
    attempted: set[tuple[object, ...]] = set()
    while True:
        previous = len(attempted)
        for run in run_views.iter_due_runs(database, now):
            step = (run.schedule, run.scheduled_at, run.source_batch_id, run.batch_id, run.state, run.batch_has_ended)
            if step in attempted:
                continue
            attempted.add(step)
            outcome = _run_next_step(database, settings, catalogue, run, now)
            if outcome is not None:
                counts[outcome] += 1
        if len(attempted) == previous:
            return counts["read"], counts["ended"]


def _run_next_step(
    database: Database, settings: Settings, catalogue: Catalogue, run: RunView, now: datetime
) -> str | None:
    """Do the next step of one run; return its name in the tick's counts. An error affects this run only."""
    step = _next_step(run)
    try:
        if step == FINISHING:
            return "ended" if finish.finish_run(database, settings, run, now) else None
        if step == READING:
            return "read" if read_source.read_run_source(database, settings, catalogue, run, now) else None
        if step == OPENING:
            opening.open_batch(database, catalogue, run, now)
        else:
            deadline_watch.watch_deadline(database, run, now)
    except BaseException as error:  # some packages raise errors that are not Exceptions
        run_errors.handle_error(database, run, step, error, now)
    return None


def _next_step(run: RunView) -> str:
    if run.batch_id is None:
        return OPENING
    if run.batch_has_ended:
        return FINISHING
    return READING if run.batch_status is BatchStatus.VALIDATING else WATCHING
