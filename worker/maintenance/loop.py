"""Duties: what has to be looked after, by everybody. Each process tries each duty; a row in SQL lets one of them do it.

So there is no process to babysit: a duty whose holder dies half-way is due again at its next turn, for anybody.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import column, text

from models import schema
from models.background import PeriodicThread, UnexpectedErrorLog
from models.columns import UtcDateTime
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, LockTimeout, SchemaMismatch, Unreachable
from models.failpoints import failpoint
from worker.leasing import database_refusal
from worker.leasing.database_refusal import OnRefusal
from worker.maintenance.tasks import RECLAIM_TASK, MaintenanceTask

log = structlog.get_logger(__name__)

SELECT_TASKS = "SELECT name, due_at, {now} AS now FROM duties"

INSERT_TASK = "INSERT INTO duties (name, due_at) VALUES (:name, {now}) ON CONFLICT (name) DO NOTHING"

# Of several that come at once, whoever moves the moment on has the turn. A moment that lies further ahead than a turn
# does was written before the database's clock stepped back.
CLAIM_RUN = """
UPDATE duties SET due_at = {later}, ran_at = {now}, ran_by = :who
WHERE name = :name AND (due_at <= {now} OR due_at > {later})
"""

RECORD_FAILURE = "UPDATE duties SET failed_at = {now}, failure = :failure, due_at = {later} WHERE name = :name"
MAX_BACKOFF_SECONDS = 300.0

RECORD_EFFECT = "UPDATE duties SET acted_at = {now}, acted = :acted WHERE name = :name"


def is_due(next_run_at: datetime, now: datetime, interval_seconds: float) -> bool:
    """Whether a duty's moment has come, or lies further ahead than anybody puts it: then the clock stepped back."""
    return next_run_at <= now or next_run_at > now + timedelta(seconds=interval_seconds)


class MaintenanceLoop(PeriodicThread):
    """One thread for each process. `run_once` does what is due; the loop only sleeps between."""

    def __init__(
        self,
        database: Database,
        tasks: Iterable[MaintenanceTask],
        holder_id: str,
        *,
        reclaim_grace_seconds: float,
        on_schema_mismatch: OnRefusal = database_refusal.ignore_refusal,
    ) -> None:
        super().__init__("duties")
        self._database = database
        self._tasks = list(tasks)
        self._holder_id = holder_id
        self._reclaim_grace_seconds = reclaim_grace_seconds
        self._on_schema_mismatch = on_schema_mismatch
        self._unexpected_errors = UnexpectedErrorLog(log, "a defect in a duty")
        self._next_checks = dict.fromkeys((duty.name for duty in self._tasks), 0.0)
        self._has_rows = False
        self._failures: dict[str, tuple[str, int]] = {}  # duties that failed at their last turn: of what, how often
        self._sleep_seconds = min(duty.interval_seconds for duty in self._tasks) / 2

    def run_once(self, now: float) -> None:
        """Do what is due at this moment of the monotonic clock and nobody else has done; raises Unreachable."""
        try:
            mine = [duty for duty in self._tasks if now >= self._next_checks[duty.name]]
            waiting = self._due_task_names() if mine else set()
            for duty in mine:
                self._next_checks[duty.name] = now + duty.interval_seconds
                if duty.name in waiting and not self._stopping.is_set() and self._claim_run(duty):
                    self._run_task(duty)
        except Unreachable:
            # Leases ran out that nobody could renew: their holders get a moment before they are taken for dead.
            self._next_checks[RECLAIM_TASK] = now + self._reclaim_grace_seconds
            raise

    def _loop(self) -> None:
        while not self._stopping.wait(self._sleep_seconds):
            try:
                self.run_once(time.monotonic())
            except Unreachable as error:
                log.warning("duties have to wait, will try again", error=str(error))
            except DatabaseRefused as error:
                self._handle_refusal(error)
            except Exception as error:  # one duty's defect must not keep the others from being done
                self._unexpected_errors.record(error)

    def _handle_refusal(self, error: DatabaseRefused) -> None:
        log.error("the database refuses a duty", code=error.code, error=str(error))
        if isinstance(schema.explain_refusal(self._database, error), SchemaMismatch):
            self._on_schema_mismatch(error)

    def _due_task_names(self) -> set[str]:
        sql = self._database.sql
        if not self._has_rows:
            with self._database.write() as connection:
                for duty in self._tasks:
                    connection.execute(text(INSERT_TASK.format(now=sql.now)), {"name": duty.name})
            self._has_rows = True
        seconds = {duty.name: duty.interval_seconds for duty in self._tasks}
        query = text(SELECT_TASKS.format(now=sql.now)).columns(
            column("name"), column("due_at", UtcDateTime), column("now", UtcDateTime)
        )
        with self._database.read() as connection:
            return {
                row.name
                for row in connection.execute(query)
                if row.name in seconds and is_due(row.due_at, row.now, seconds[row.name])
            }

    def _claim_run(self, task: MaintenanceTask) -> bool:
        sql = self._database.sql
        named = {"name": task.name, "who": self._holder_id, "seconds": task.interval_seconds}
        query = text(CLAIM_RUN.format(now=sql.now, later=sql.now_plus_seconds))
        return self._database.transact(lambda connection: connection.execute(query, named).rowcount == 1)

    def _run_task(self, task: MaintenanceTask) -> None:
        failpoint("in_duty")
        try:
            acted = task.run()
        except LockTimeout as error:  # it is due again soon, and what it met is no reason to keep the others waiting
            log.info("a duty met what others have locked", duty=task.name, error=str(error))
            return
        except Unreachable:
            raise
        except Exception as error:
            if isinstance(error, DatabaseRefused):
                self._handle_refusal(error)
            self._record_failure(task, error)
            return
        self._failures.pop(task.name, None)
        if acted:
            log.warning(acted, duty=task.name)
            with self._database.write() as connection:
                connection.execute(
                    text(RECORD_EFFECT.format(now=self._database.sql.now)), {"name": task.name, "acted": acted[:1000]}
                )

    def _record_failure(self, task: MaintenanceTask, error: Exception) -> None:
        """Put a duty off that can't be done, each time for longer; the traceback of a defect is logged once."""
        kind, times = str(error)[:500] if isinstance(error, BatchmillError) else type(error).__name__, 1
        if (before := self._failures.get(task.name)) is not None and before[0] == kind:
            times = before[1] + 1
        self._failures[task.name] = (kind, times)
        trace = None if times > 1 or isinstance(error, BatchmillError) else error
        seconds = min(task.interval_seconds * 2.0 ** min(times, 16), max(MAX_BACKOFF_SECONDS, task.interval_seconds))
        log.error("duty.failed", duty=task.name, error=kind, seconds=seconds, exc_info=trace)
        sql = self._database.sql
        with self._database.write() as connection:
            named = {"name": task.name, "failure": kind, "seconds": seconds}
            connection.execute(text(RECORD_FAILURE.format(now=sql.now, later=sql.now_plus_seconds)), named)
