"""One tick: what the schedules have due at this moment, from a slot to the last word on its run.

Any number of ticks may run at once and die anywhere: every step is one transaction, or is begun anew by the next.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import BatchStatus
from producer.schedules.alerts import webhook
from producer.schedules.runs import deadline_watch, finish, planning, read_source, run_errors, run_views
from producer.schedules.runs.deadline_watch import STEP as WATCHING
from producer.schedules.runs.finish import STEP as FINISHING
from producer.schedules.runs.read_source import STEP as READING
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TickResult:
    """What was done: slots decided, runs whose source was looked at, runs that ended, events that were sent."""

    evaluated: int
    sources_read: int
    runs_ended: int
    events_sent: int

    def __bool__(self) -> bool:
        """Whether there was anything."""
        return bool(self.evaluated or self.sources_read or self.runs_ended or self.events_sent)


def run_once(database: Database, settings: Settings, catalogue: Catalogue, now: datetime) -> TickResult:
    """Do all that is due at `now`; one schedule's trouble is logged and keeps no other from its turn.

    Raises Unreachable where our own database is away.
    """
    planned = planning.plan_due_schedules(database, catalogue, now)
    for one in planned:
        log.info(
            "slots decided",
            schedule=one.schedule,
            runs=len(one.runs),
            skipped=len(one.skipped),
            missed=one.missed_count,
        )
    read_source.mark_started_runs(database, now)
    read, ended = _process_due_runs(database, settings, catalogue, now)
    decided = sum(len(one.runs) + len(one.skipped) + one.missed_count for one in planned)
    return TickResult(decided, read, ended, webhook.send_due(database, settings))


def _process_due_runs(database: Database, settings: Settings, catalogue: Catalogue, now: datetime) -> tuple[int, int]:
    """Read, watch and finish each run once at most, as long as there is one: the end of one may let the next begin."""
    done = {"read": 0, "ended": 0}
    tried: set[tuple[object, ...]] = set()
    while True:
        before = len(tried)
        for run in run_views.iter_due_runs(database, now):
            step = (run.schedule, run.slot, run.state, run.batch_has_ended)
            if step in tried:
                continue
            tried.add(step)
            what = _run_next_step(database, settings, catalogue, run, now)
            if what is not None:
                done[what] += 1
        if len(tried) == before:
            return done["read"], done["ended"]


def _run_next_step(
    database: Database, settings: Settings, catalogue: Catalogue, run: RunView, now: datetime
) -> str | None:
    """Do what is next with one run; what was done of what counts. Whatever is raised is that run's trouble alone."""
    step = _next_step(run)
    try:
        if step == FINISHING:
            return "ended" if finish.finish_run(database, settings, run, now) else None
        if step == READING:
            return "read" if read_source.read_run_source(database, settings, catalogue, run, now) else None
        deadline_watch.watch_deadline(database, run, now)
    except BaseException as error:  # some packages raise what is no Exception
        run_errors.handle_error(database, run, step, error, now)
    return None


def _next_step(run: RunView) -> str:
    if run.batch_has_ended:
        return FINISHING
    return READING if run.batch_status is BatchStatus.VALIDATING else WATCHING
