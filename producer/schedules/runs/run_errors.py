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
from models.states import BatchStatus, Ending
from producer.readers.storable import storable
from producer.schedules.alerts import events
from producer.schedules.runs.run_lease import at_moments
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)

MOST_STARTS = 5  # of one step that its process never came to the end of
MOST_FAULTS = 3  # of those that may pass
PAUSE = timedelta(seconds=30)  # before the next try, then twice as long
MAY_PASS = (MemoryError, OSError, OperationalError, InterfaceError)
TO_END_US = (KeyboardInterrupt, SystemExit, GeneratorExit)

BEGIN = """
UPDATE runs SET starts = starts + 1 WHERE schedule = :schedule AND slot = :slot AND held_by = :token RETURNING starts
"""
ENDED = "UPDATE runs SET starts = 0 WHERE schedule = :schedule AND slot = :slot AND starts > 0"

# Whoever holds the run meanwhile is at the same step, and ends it or meets the same: it is left to that one.
PUT_OFF = """
UPDATE runs SET look_at = :look_at, faults = faults + 1, tries = tries + 1, starts = 0, error_code = :code,
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND look_at IS NOT NULL AND (held_by IS NULL OR held_until < {now})
"""
FAULTS = "SELECT faults FROM runs WHERE schedule = :schedule AND slot = :slot"

# Lock order, as in planning: the schedule's row, then its runs.
LOCK = "SELECT name FROM schedules WHERE name = :schedule {for_update}"
FAIL = """
UPDATE runs SET state = 'failed', finished_at = :moment, look_at = NULL, error_code = :code, error_message = :message
WHERE schedule = :schedule AND slot = :slot AND look_at IS NOT NULL AND (held_by IS NULL OR held_until < {now})
"""


class KeptEnding(BatchmillError):
    """A run's step was begun time and again, and its process ended each time without a word."""

    code = "step_killed"


def begin(database: Database, run: RunView, token: str, step: str) -> None:
    """Count a start of the step that the holder of a run is about to do; raises KeptEnding after too many."""
    with database.write() as connection:
        starts = connection.scalar(at_moments(BEGIN), {**run.key, "token": token}) or 0
    if starts > MOST_STARTS:
        raise KeptEnding(
            f"its process was killed {MOST_STARTS} times while {step}; perhaps that takes more memory than there is"
        )


def ended(database: Database, run: RunView) -> None:
    """The step came to its end."""
    with database.write() as connection:
        connection.execute(at_moments(ENDED), run.key)


def sentence(error: BaseException, step: str) -> str:
    """What a person reads of an error; the message of one that is not ours may quote inputs."""
    if isinstance(error, BatchmillError):
        return str(error)
    return f"a defect ({type(error).__name__}) while {step}; the log of the machine that did it says where"


def code(error: BaseException) -> str:
    """What programs read of it."""
    return error.code if isinstance(error, BatchmillError) else BatchmillError.code


def meet(database: Database, run: RunView, step: str, error: BaseException, now: datetime) -> None:
    """Try a run again later, or end it by name; raises what is to end this process, and Unreachable."""
    if isinstance(error, (*TO_END_US, Unreachable)):
        raise error
    about = {"schedule": run.schedule, "slot": run.slot.isoformat(), "step": step, "error": type(error).__name__}
    if isinstance(error, MAY_PASS) and _put_off(database, run, step, error, now):
        log.warning("run.put_off", **about)
        return
    log.error("run.failed", **about, exc_info=None if isinstance(error, BatchmillError) else error)
    try:
        _fail(database, run, code(error), sentence(error, step), now, tells=True)
    except Unreachable:
        raise
    except Exception:
        log.exception("run.failure_not_told", **about)
        _fail(database, run, code(error), "see the log", now, tells=False)
    if run.batch_id is not None:  # one that is accepted goes on, and has its results
        termination.end(
            database, run.batch_id, Ending.FAILED, code(error), storable(sentence(error, step)),
            of=(BatchStatus.VALIDATING,),
        )  # fmt: skip


def _put_off(database: Database, run: RunView, step: str, error: BaseException, now: datetime) -> bool:
    with database.write() as connection:
        faults = connection.scalar(at_moments(FAULTS), run.key)
        if faults is None or faults >= MOST_FAULTS:
            return False
        named = {"look_at": now + PAUSE * 2**faults, "code": code(error), "message": storable(sentence(error, step))}
        statement = at_moments(PUT_OFF.format(now=database.sql.now), "look_at")
        connection.execute(statement, {**run.key, **named})
    return True


def _fail(database: Database, run: RunView, error_code: str, message: str, now: datetime, *, tells: bool) -> None:
    with database.write() as connection:
        connection.execute(at_moments(LOCK.format(for_update=database.sql.for_update)), {"schedule": run.schedule})
        named = {"moment": now, "code": error_code, "message": storable(message)}
        statement = at_moments(FAIL.format(now=database.sql.now), "moment")
        if connection.execute(statement, {**run.key, **named}).rowcount and tells:
            told, url = f"{error_code}: {message}", run.definition.get("webhook")
            events.note(connection, run.schedule, run.slot, "failed", told, at=now, url=url)
