"""Unexpected errors in a run, which fail that run and no other.

Errors that may be transient, such as a lack of memory, are retried a few times. A step whose process is killed leaves
only its count of starts; after too many starts without an end, the run fails as well.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from models.backoff import max_backoff_seconds
from models.db import Database
from models.errors import BatchmillError, Unreachable
from models.lifecycle import termination
from models.states import BatchStatus, RunState, Termination
from producer.readers.storable import make_storable
from producer.schedules import registry
from producer.schedules.runs import run_alerts
from producer.schedules.runs.following import followers
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)

MAX_STEP_STARTS = 5  # starts of one step that no process finished
MAX_UNEXPECTED_ERRORS = 3  # transient ones, before the run fails
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 30.0, 120.0  # doubles with each error
TRANSIENT_ERRORS = (MemoryError, OSError, OperationalError, InterfaceError)
PROCESS_EXIT_ERRORS = (KeyboardInterrupt, SystemExit, GeneratorExit)

COUNT_STEP_START = """
UPDATE runs SET step_starts = step_starts + 1
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id RETURNING step_starts
"""
RESET_STEP_STARTS = (
    "UPDATE runs SET step_starts = 0 WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND step_starts > 0"
)

# Skip a run that another process holds by now: that process is at the same step, and finishes it or fails the same way.
POSTPONE_RUN = """
UPDATE runs SET next_check_at = :next_check_at, unexpected_errors = unexpected_errors + 1, attempts = attempts + 1,
       step_starts = 0, error_code = :code, error_message = :message
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND next_check_at IS NOT NULL
  AND (holder_id IS NULL OR held_until < {now})
"""
SELECT_UNEXPECTED_ERRORS = (
    "SELECT unexpected_errors FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at"
)

# Lock order, as in planning: the schedule's row before the run.
FAIL_RUN = """
UPDATE runs SET state = 'failed', finished_at = :now, next_check_at = NULL, error_code = :code, error_message = :message
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND next_check_at IS NOT NULL
  AND (holder_id IS NULL OR held_until < {now})
"""


class StepKilled(BatchmillError):
    """A run's step was started several times, and each time its process exited without an error."""

    code = "step_crashed"


def begin_step(database: Database, run: RunView, holder_id: str, step: str) -> None:
    """Count a start of the step that the run's holder is about to do; raises StepKilled after too many."""
    with database.write() as connection:
        starts = connection.scalar(bind_datetimes(COUNT_STEP_START), {**run.key, "holder_id": holder_id}) or 0
    if starts > MAX_STEP_STARTS:
        raise StepKilled(
            f"its process was killed {MAX_STEP_STARTS} times while {step}; perhaps that takes more memory than there is"
        )


def end_step(database: Database, run: RunView) -> None:
    """Reset the count of starts after a step has finished."""
    with database.write() as connection:
        connection.execute(bind_datetimes(RESET_STEP_STARTS), run.key)


def describe_error(error: BaseException, step: str) -> str:
    """Return a sentence about an error for people; it omits messages of foreign errors, which may quote inputs."""
    if isinstance(error, BatchmillError):
        return str(error)
    return f"a defect ({type(error).__name__}) while {step}; the log of the machine that did it says where"


def code_for(error: BaseException) -> str:
    """Return the error code for programs."""
    return error.code if isinstance(error, BatchmillError) else BatchmillError.code


def handle_error(database: Database, run: RunView, step: str, error: BaseException, now: datetime) -> None:
    """Retry a run later or fail it; re-raises Unreachable and errors that must end this process."""
    if isinstance(error, (*PROCESS_EXIT_ERRORS, Unreachable)):
        raise error
    fields = {
        "schedule": run.schedule,
        "scheduled_at": run.scheduled_at.isoformat(),
        "step": step,
        "error": type(error).__name__,
    }
    if isinstance(error, TRANSIENT_ERRORS) and _postpone(database, run, step, error, now):
        log.warning("run.step_deferred", **fields)
        return
    log.error("run.step_failed", **fields, exc_info=None if isinstance(error, BatchmillError) else error)
    try:
        _fail_run(database, run, code_for(error), describe_error(error, step), now, alerts=True)
    except Unreachable:
        raise
    except Exception:
        log.exception("run.alert_failed", **fields)
        _fail_run(database, run, code_for(error), "see the log", now, alerts=False)
    if run.batch_id is not None:  # an accepted batch continues and gets its results
        termination.terminate(
            database,
            run.batch_id,
            Termination.FAILED,
            code_for(error),
            make_storable(describe_error(error, step)),
            from_statuses=(BatchStatus.VALIDATING,),
        )


def _postpone(database: Database, run: RunView, step: str, error: BaseException, now: datetime) -> bool:
    with database.write() as connection:
        errors = connection.scalar(bind_datetimes(SELECT_UNEXPECTED_ERRORS), run.key)
        if errors is None or errors >= MAX_UNEXPECTED_ERRORS:
            return False
        retry_seconds = max_backoff_seconds(errors + 1, FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS)
        values = {
            "next_check_at": now + timedelta(seconds=retry_seconds),
            "code": code_for(error),
            "message": make_storable(describe_error(error, step)),
        }
        statement = bind_datetimes(POSTPONE_RUN.format(now=database.sql.now), "next_check_at")
        connection.execute(statement, {**run.key, **values})
    return True


def _fail_run(database: Database, run: RunView, error_code: str, message: str, now: datetime, *, alerts: bool) -> None:
    with database.write() as connection:
        registry.lock_if_exists(connection, database.sql, run.schedule)
        values = {"now": now, "code": error_code, "message": make_storable(message)}
        statement = bind_datetimes(FAIL_RUN.format(now=database.sql.now), "now")
        if not connection.execute(statement, {**run.key, **values}).rowcount:
            return
        followers.plan_followers(connection, database.sql, run, RunState.FAILED, now)
        if alerts:
            run_alerts.record_run_event(connection, run, "failed", message, now, error_code)
