"""The maintenance loop runs periodic tasks in any process. A row in SQL lets one process at a time run each task.

No dedicated process is needed: a task whose process crashes half-way is due again at its next run, for any process.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import TextClause, bindparam, text

from models import schema
from models.backoff import max_backoff_seconds
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, LockTimeout, SchemaMismatch, TransactionConflict, Unreachable
from models.processes.background import PeriodicThread, UnexpectedErrorLog
from models.processes.failpoints import failpoint
from worker.leasing import database_refusal
from worker.leasing.database_refusal import OnRefusal
from worker.maintenance.tasks import RECLAIM_TASK, MaintenanceTask

log = structlog.get_logger(__name__)

INSERT_TASK = "INSERT INTO maintenance_tasks (name, next_run_at) VALUES (:name, {now}) ON CONFLICT (name) DO NOTHING"

# A time further ahead than the interval, or than the longest backoff, was written before the database's clock stepped
# back.
DUE_TASKS = "name IN :names AND (next_run_at <= {now} OR next_run_at > {latest})"

ANY_DUE_TASK = f"SELECT 1 FROM maintenance_tasks WHERE {DUE_TASKS} LIMIT 1"  # noqa: S608

# Among several processes, the one whose update moves `next_run_at` has the run. One statement claims all due tasks and
# asks each whether it has work, so that an idle process sends one statement instead of several for each task. A locked
# row is another process' claim.
CLAIM_RUNS = f"""
UPDATE maintenance_tasks SET next_run_at = {{later}}, last_run_at = {{now}}, last_run_by = :holder_id
WHERE name IN (SELECT name FROM maintenance_tasks WHERE {DUE_TASKS} ORDER BY name {{skip_locked}})
RETURNING name, failures_in_a_row, CASE name {{has_work}} END AS has_work
"""  # noqa: S608

RECORD_FAILURE = """
UPDATE maintenance_tasks SET last_failed_at = {now}, last_failure = :last_failure,
       failures_in_a_row = failures_in_a_row + 1
WHERE name = :name RETURNING failures_in_a_row
"""

# A claim that fails moves no `next_run_at`, so all processes may meet the same error. The first one defers the run in
# this transaction; the others wait for its row and find it not due, so that one error counts once.
RECORD_CLAIM_FAILURE = f"""
UPDATE maintenance_tasks SET last_failed_at = {{now}}, last_failure = :last_failure,
       failures_in_a_row = failures_in_a_row + 1
WHERE {DUE_TASKS} RETURNING failures_in_a_row
"""  # noqa: S608
SELECT_FAILURES = "SELECT failures_in_a_row FROM maintenance_tasks WHERE name = :name"
DEFER_RUN = "UPDATE maintenance_tasks SET next_run_at = {later} WHERE name = :name"
MAX_BACKOFF_SECONDS = 300.0
MAX_BLOCKED_RUNS = 5  # in a row; the next one counts as a failure

RECORD_SUCCESS = "UPDATE maintenance_tasks SET failures_in_a_row = 0 WHERE name = :name"
RECORD_EFFECT = """
UPDATE maintenance_tasks SET last_effect_at = {now}, last_effect = :last_effect, failures_in_a_row = 0
WHERE name = :name
"""


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run of a task that this process has claimed."""

    task: MaintenanceTask
    has_work: bool
    failures_in_a_row: int


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
        self._logged_failures: dict[str, str] = {}  # by task: the last run's error
        self._blocked_runs: Counter[str] = Counter()  # by task, in a row
        self._sleep_seconds = min(task.interval_seconds for task in self._tasks) / 2

    def run_once(self, now: float) -> None:
        """Run the tasks that are due and that no other process has run; raises Unreachable.

        now: a time of the monotonic clock.
        """
        try:
            tasks = [task for task in self._tasks if now >= self._next_checks[task.name]]
            for task in tasks:
                self._next_checks[task.name] = now + task.interval_seconds
            # A claim without a run would keep a process away that could do the work.
            runnable = [task for task in tasks if task.can_run()]
            for run in self._claim_runs(runnable, now) if runnable else ():
                if not self._stopping.is_set():
                    self._run_task(run, now)
        except Unreachable:
            # Holders could not renew their leases either, so they get time to do so before slices are reclaimed.
            self._next_checks[RECLAIM_TASK] = now + self._reclaim_grace_seconds
            raise

    def _loop(self) -> None:
        # The first round comes at once: a worker whose task crashes each process may end before a second one. Holders
        # of leases get a moment, because the database may have been unreachable until now.
        self._next_checks[RECLAIM_TASK] = time.monotonic() + self._sleep_seconds
        while not self._stopping.is_set():
            self._run_round()
            self._stopping.wait(self._sleep_seconds)

    def _run_round(self) -> None:
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

    def _claim_runs(self, tasks: Sequence[MaintenanceTask], now: float) -> list[ClaimedRun]:
        """Claim the due ones among these tasks; a task whose question fails does not keep the others from running."""
        self._insert_rows()
        try:
            return self._claim_together(tasks)
        except Unreachable:
            raise
        except Exception as error:
            if len(tasks) > 1:
                return [run for task in tasks for run in self._claim_runs([task], now)]
            self._handle_failure(tasks[0], error, now, has_claim=False)
            return []

    def _insert_rows(self) -> None:
        if self._has_rows:
            return
        with self._database.write() as connection:
            for task in self._tasks:
                connection.execute(text(INSERT_TASK.format(now=self._database.sql.now)), {"name": task.name})
        self._has_rows = True

    def _claim_together(self, tasks: Sequence[MaintenanceTask]) -> list[ClaimedRun]:
        sql = self._database.sql
        by_name = {task.name: task for task in tasks}
        fragments = {
            **self._time_fragments(tasks),
            "skip_locked": sql.skip_locked,
            "has_work": " ".join(f"WHEN '{task.name}' THEN {task.has_work}" for task in tasks),
        }
        params = {"names": list(by_name), "holder_id": self._holder_id}
        if self._database.engine.dialect.name == "sqlite":  # which has one writer at a time
            with self._database.statement() as connection:
                if connection.scalar(_with_names(ANY_DUE_TASK, fragments), params) is None:
                    return []
        with self._database.statement(read_only=False) as connection:
            rows = connection.execute(_with_names(CLAIM_RUNS, fragments), params).all()
        claimed = {row.name: row for row in rows}
        return [
            ClaimedRun(task, bool(claimed[task.name].has_work), claimed[task.name].failures_in_a_row)
            for task in tasks
            if task.name in claimed
        ]

    def _time_fragments(self, tasks: Sequence[MaintenanceTask]) -> dict[str, str]:
        """SQL for the current time, the tasks' next runs, and the latest time at which a run may be due."""
        sql = self._database.sql
        interval = " ".join(f"WHEN '{task.name}' THEN {task.interval_seconds:f}" for task in tasks)
        max_backoff = max(MAX_BACKOFF_SECONDS, *(task.interval_seconds for task in tasks))
        max_wait = f"CASE WHEN failures_in_a_row > 0 THEN {max_backoff:f} ELSE CASE name {interval} END END"
        return {
            "now": sql.now,
            "later": sql.now_plus_seconds.replace(":seconds", f"(CASE name {interval} END)"),
            "latest": sql.now_plus_seconds.replace(":seconds", f"({max_wait})"),
        }

    def _run_task(self, run: ClaimedRun, now: float) -> None:
        failpoint("in_maintenance")
        try:
            effect = run.task.run() if run.has_work or run.task.is_unfinished() else ""
        except (LockTimeout, TransactionConflict) as error:
            self._handle_blocked(run.task, error, now)
        except Unreachable:
            raise
        except Exception as error:
            self._handle_failure(run.task, error, now)
        else:
            self._handle_success(run, effect)

    def _handle_success(self, run: ClaimedRun, effect: str) -> None:
        task = run.task
        self._logged_failures.pop(task.name, None)
        self._blocked_runs.pop(task.name, None)
        if effect:
            log_effect = log.info if task.is_routine else log.warning
            log_effect(task.event, maintenance_task=task.name, effect=effect)
        if effect or run.failures_in_a_row:
            query = RECORD_EFFECT.format(now=self._database.sql.now) if effect else RECORD_SUCCESS
            with self._database.write() as connection:
                connection.execute(text(query), {"name": task.name, "last_effect": effect[:1000]})

    def _handle_blocked(self, task: MaintenanceTask, error: Unreachable, now: float) -> None:
        """Leave a task that met a locked row to its next run; if that happens again and again, it has failed."""
        self._blocked_runs[task.name] += 1
        if self._blocked_runs[task.name] > MAX_BLOCKED_RUNS:
            self._handle_failure(task, error, now)
        else:
            log.info("maintenance.task_blocked", maintenance_task=task.name, error=str(error))

    def _handle_failure(self, task: MaintenanceTask, error: Exception, now: float, *, has_claim: bool = True) -> None:
        """Defer a failed task with a growing backoff; the traceback of an unexpected error is logged once.

        has_claim: whether this process has claimed the run; otherwise another one may have recorded the same failure.
        """
        if isinstance(error, DatabaseRefused):
            self._handle_refusal(error)
        message = str(error)[:500] if isinstance(error, BatchmillError) else type(error).__name__
        seconds, is_recorded = self._record_failure(task, message, has_claim=has_claim)
        self._next_checks[task.name] = now + seconds
        if not is_recorded:
            return
        is_new = self._logged_failures.get(task.name) != message
        self._logged_failures[task.name] = message
        log.error(
            "maintenance.task_failed",
            maintenance_task=task.name,
            error=message,
            retry_seconds=seconds,
            exc_info=error if is_new and not isinstance(error, BatchmillError) else None,
        )

    def _record_failure(self, task: MaintenanceTask, message: str, *, has_claim: bool) -> tuple[float, bool]:
        """Record the failure, unless another process has; returns the seconds until the next try, and which it was."""
        sql = self._database.sql
        params = {"name": task.name, "names": [task.name], "last_failure": message}
        query = text(RECORD_FAILURE.format(now=sql.now))
        if not has_claim:
            query = _with_names(RECORD_CLAIM_FAILURE, self._time_fragments([task]))
        with self._database.write() as connection:
            recorded = connection.execute(query, params).scalar_one_or_none()
            failures = connection.execute(text(SELECT_FAILURES), params).scalar_one() if recorded is None else recorded
            max_seconds = max(MAX_BACKOFF_SECONDS, task.interval_seconds)
            seconds = max_backoff_seconds(failures + 1, task.interval_seconds, max_seconds)
            if recorded is not None:
                connection.execute(text(DEFER_RUN.format(later=sql.now_plus_seconds)), {**params, "seconds": seconds})
        return seconds, recorded is not None


def _with_names(query: str, fragments: Mapping[str, str]) -> TextClause:
    return text(query.format(**fragments)).bindparams(bindparam("names", expanding=True))
