"""The maintenance loop runs periodic tasks in any process. A row in SQL lets one process at a time run each task.

No dedicated process is needed: a task whose process crashes half-way is due again at its next run, for any process.
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

SELECT_TASKS = "SELECT name, next_run_at, {now} AS now FROM maintenance_tasks"

INSERT_TASK = "INSERT INTO maintenance_tasks (name, next_run_at) VALUES (:name, {now}) ON CONFLICT (name) DO NOTHING"

# Among several processes, the one whose update moves `next_run_at` has the run. A time further ahead than the interval
# was written before the database's clock stepped back.
CLAIM_RUN = """
UPDATE maintenance_tasks SET next_run_at = {later}, last_run_at = {now}, last_run_by = :holder_id
WHERE name = :name AND (next_run_at <= {now} OR next_run_at > {later})
"""

RECORD_FAILURE = """
UPDATE maintenance_tasks SET last_failed_at = {now}, last_failure = :last_failure, next_run_at = {later}
WHERE name = :name
"""
MAX_BACKOFF_SECONDS = 300.0

RECORD_EFFECT = "UPDATE maintenance_tasks SET last_effect_at = {now}, last_effect = :last_effect WHERE name = :name"


def is_due(next_run_at: datetime, now: datetime, interval_seconds: float) -> bool:
    """Whether a task is due, or its next run lies too far ahead, because the database's clock stepped back."""
    return next_run_at <= now or next_run_at > now + timedelta(seconds=interval_seconds)


class MaintenanceLoop(PeriodicThread):
    """Runs due tasks in a thread of each process.

    holder_id: the name of this process in the tasks' rows.
    reclaim_grace_seconds: the pause before reclaiming after the database was unreachable.
    on_schema_mismatch: called when the tables are of another version.
    """

    def __init__(
        self,
        database: Database,
        tasks: Iterable[MaintenanceTask],
        holder_id: str,
        *,
        reclaim_grace_seconds: float,
        on_schema_mismatch: OnRefusal = database_refusal.ignore_refusal,
    ) -> None:
        super().__init__("maintenance")
        self._database = database
        self._tasks = list(tasks)
        self._holder_id = holder_id
        self._reclaim_grace_seconds = reclaim_grace_seconds
        self._on_schema_mismatch = on_schema_mismatch
        self._unexpected_errors = UnexpectedErrorLog(log, "maintenance.crashed")
        self._next_checks = dict.fromkeys((task.name for task in self._tasks), 0.0)
        self._has_rows = False
        self._failures: dict[str, tuple[str, int]] = {}  # by task: the last run's error, and how often in a row
        self._sleep_seconds = min(task.interval_seconds for task in self._tasks) / 2

    def run_once(self, now: float) -> None:
        """Run the tasks that are due and that no other process has run; raises Unreachable.

        now: a time of the monotonic clock.
        """
        try:
            tasks = [task for task in self._tasks if now >= self._next_checks[task.name]]
            due_names = self._due_task_names() if tasks else set()
            for task in tasks:
                self._next_checks[task.name] = now + task.interval_seconds
                if task.name in due_names and not self._stopping.is_set() and self._claim_run(task):
                    self._run_task(task)
        except Unreachable:
            # Holders could not renew their leases either, so they get time to do so before slices are reclaimed.
            self._next_checks[RECLAIM_TASK] = now + self._reclaim_grace_seconds
            raise

    def _loop(self) -> None:
        while not self._stopping.wait(self._sleep_seconds):
            try:
                self.run_once(time.monotonic())
            except Unreachable as error:
                log.warning("database.unreachable", operation="maintenance", error=str(error))
            except DatabaseRefused as error:
                self._handle_refusal(error)
            except Exception as error:  # one task's unexpected error must not keep the others from running
                self._unexpected_errors.record(error)

    def _handle_refusal(self, error: DatabaseRefused) -> None:
        log.error("database.refused", operation="maintenance", error_code=error.code, error=str(error))
        if isinstance(schema.explain_refusal(self._database, error), SchemaMismatch):
            self._on_schema_mismatch(error)

    def _due_task_names(self) -> set[str]:
        sql = self._database.sql
        if not self._has_rows:
            with self._database.write() as connection:
                for task in self._tasks:
                    connection.execute(text(INSERT_TASK.format(now=sql.now)), {"name": task.name})
            self._has_rows = True
        seconds = {task.name: task.interval_seconds for task in self._tasks}
        query = text(SELECT_TASKS.format(now=sql.now)).columns(
            column("name"), column("next_run_at", UtcDateTime), column("now", UtcDateTime)
        )
        with self._database.read() as connection:
            return {
                row.name
                for row in connection.execute(query)
                if row.name in seconds and is_due(row.next_run_at, row.now, seconds[row.name])
            }

    def _claim_run(self, task: MaintenanceTask) -> bool:
        sql = self._database.sql
        params = {"name": task.name, "holder_id": self._holder_id, "seconds": task.interval_seconds}
        query = text(CLAIM_RUN.format(now=sql.now, later=sql.now_plus_seconds))
        return self._database.transact(lambda connection: connection.execute(query, params).rowcount == 1)

    def _run_task(self, task: MaintenanceTask) -> None:
        failpoint("in_maintenance")
        try:
            effect = task.run()
        except LockTimeout as error:  # it is due again soon, and other tasks need not wait
            log.info("maintenance.task_blocked", maintenance_task=task.name, error=str(error))
            return
        except Unreachable:
            raise
        except Exception as error:
            if isinstance(error, DatabaseRefused):
                self._handle_refusal(error)
            self._record_failure(task, error)
            return
        self._failures.pop(task.name, None)
        if effect:
            log.warning(task.event, maintenance_task=task.name, effect=effect)
            query = text(RECORD_EFFECT.format(now=self._database.sql.now))
            with self._database.write() as connection:
                connection.execute(query, {"name": task.name, "last_effect": effect[:1000]})

    def _record_failure(self, task: MaintenanceTask, error: Exception) -> None:
        """Defer a failed task with a growing backoff; the traceback of an unexpected error is logged once."""
        message = str(error)[:500] if isinstance(error, BatchmillError) else type(error).__name__
        previous_message, count = self._failures.get(task.name, ("", 0))
        count = count + 1 if previous_message == message else 1
        self._failures[task.name] = (message, count)
        seconds = min(task.interval_seconds * 2.0 ** min(count, 16), max(MAX_BACKOFF_SECONDS, task.interval_seconds))
        log.error(
            "maintenance.task_failed",
            maintenance_task=task.name,
            error=message,
            retry_seconds=seconds,
            exc_info=None if count > 1 or isinstance(error, BatchmillError) else error,
        )
        sql = self._database.sql
        params = {"name": task.name, "last_failure": message, "seconds": seconds}
        with self._database.write() as connection:
            connection.execute(text(RECORD_FAILURE.format(now=sql.now, later=sql.now_plus_seconds)), params)
