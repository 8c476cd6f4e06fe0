"""Defects: what is raised while a run goes on, and is no error of ours, ends that run by name and no other.

What may pass with time, such as memory that is short, is tried again a few times. A step whose process is killed leaves
nothing but its count: once it was begun so often without an end, the run fails as well.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from models.db import Database
from models.errors import BatchmillError, Unreachable
from models.lifecycle import termination
from models.states import BatchStatus, Termination
from producer.readers.storable import make_storable
from producer.schedules.alerts import events
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)

MAX_STARTS = 5  # of one step that its process never came to the end of
MAX_FAULTS = 3  # of those that may pass
FIRST_RETRY_DELAY = timedelta(seconds=30)  # before the next try, then twice as long
TRANSIENT_ERRORS = (MemoryError, OSError, OperationalError, InterfaceError)
PROCESS_EXIT_ERRORS = (KeyboardInterrupt, SystemExit, GeneratorExit)

COUNT_START = """
UPDATE runs SET starts = starts + 1 WHERE schedule = :schedule AND slot = :slot AND held_by = :token RETURNING starts
"""
RESET_STARTS = "UPDATE runs SET starts = 0 WHERE schedule = :schedule AND slot = :slot AND starts > 0"

# Whoever holds the run meanwhile is at the same step, and ends it or meets the same: it is left to that one.
POSTPONE_RUN = """
UPDATE runs SET look_at = :look_at, faults = faults + 1, tries = tries + 1, starts = 0, error_code = :code,
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND look_at IS NOT NULL AND (held_by IS NULL OR held_until < {now})
"""
SELECT_FAULTS = "SELECT faults FROM runs WHERE schedule = :schedule AND slot = :slot"

# Lock order, as in planning: the schedule's row, then its runs.
LOCK_SCHEDULE = "SELECT name FROM schedules WHERE name = :schedule {for_update}"
FAIL_RUN = """
UPDATE runs SET state = 'failed', finished_at = :moment, look_at = NULL, error_code = :code, error_message = :message
WHERE schedule = :schedule AND slot = :slot AND look_at IS NOT NULL AND (held_by IS NULL OR held_until < {now})
"""


class StepKilled(BatchmillError):
    """A run's step was begun time and again, and its process ended each time without a word."""

    code = "step_killed"


def begin_step(database: Database, run: RunView, holder_id: str, step: str) -> None:
    """Count a start of the step that the holder of a run is about to do; raises KeptEnding after too many."""
    with database.write() as connection:
        starts = connection.scalar(bind_datetimes(COUNT_START), {**run.key, "token": holder_id}) or 0
    if starts > MAX_STARTS:
        raise StepKilled(
            f"its process was killed {MAX_STARTS} times while {step}; perhaps that takes more memory than there is"
        )


def end_step(database: Database, run: RunView) -> None:
    """The step came to its end."""
    with database.write() as connection:
        connection.execute(bind_datetimes(RESET_STARTS), run.key)


def describe_error(error: BaseException, step: str) -> str:
    """What a person reads of an error; the message of one that is not ours may quote inputs."""
    if isinstance(error, BatchmillError):
        return str(error)
    return f"a defect ({type(error).__name__}) while {step}; the log of the machine that did it says where"


def code_for(error: BaseException) -> str:
    """What programs read of it."""
    return error.code if isinstance(error, BatchmillError) else BatchmillError.code


def handle_error(database: Database, run: RunView, step: str, error: BaseException, now: datetime) -> None:
    """Try a run again later, or end it by name; raises what is to end this process, and Unreachable."""
    if isinstance(error, (*PROCESS_EXIT_ERRORS, Unreachable)):
        raise error
    about = {"schedule": run.schedule, "slot": run.slot.isoformat(), "step": step, "error": type(error).__name__}
    if isinstance(error, TRANSIENT_ERRORS) and _postpone(database, run, step, error, now):
        log.warning("run.put_off", **about)
        return
    log.error("run.failed", **about, exc_info=None if isinstance(error, BatchmillError) else error)
    try:
        _fail_run(database, run, code_for(error), describe_error(error, step), now, alerts=True)
    except Unreachable:
        raise
    except Exception:
        log.exception("run.failure_not_told", **about)
        _fail_run(database, run, code_for(error), "see the log", now, alerts=False)
    if run.batch_id is not None:  # one that is accepted goes on, and has its results
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
        faults = connection.scalar(bind_datetimes(SELECT_FAULTS), run.key)
        if faults is None or faults >= MAX_FAULTS:
            return False
        named = {
            "look_at": now + FIRST_RETRY_DELAY * 2**faults,
            "code": code_for(error),
            "message": make_storable(describe_error(error, step)),
        }
        statement = bind_datetimes(POSTPONE_RUN.format(now=database.sql.now), "look_at")
        connection.execute(statement, {**run.key, **named})
    return True


def _fail_run(database: Database, run: RunView, error_code: str, message: str, now: datetime, *, alerts: bool) -> None:
    with database.write() as connection:
        connection.execute(
            bind_datetimes(LOCK_SCHEDULE.format(for_update=database.sql.for_update)), {"schedule": run.schedule}
        )
        named = {"moment": now, "code": error_code, "message": make_storable(message)}
        statement = bind_datetimes(FAIL_RUN.format(now=database.sql.now), "moment")
        if connection.execute(statement, {**run.key, **named}).rowcount and alerts:
            told, url = f"{error_code}: {message}", run.definition.get("webhook")
            events.record_event(connection, run.schedule, run.slot, "failed", told, occurred_at=now, url=url)
