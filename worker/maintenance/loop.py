"""Duties: what has to be looked after, by everybody. Each process tries each duty; a row in SQL lets one of them do it.

So there is no process to babysit: a duty whose holder dies half-way is due again at its next turn, for anybody.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from sqlalchemy import column, text

from models import schema
from models.background import Background, Defects
from models.columns import Moment
from models.db import Database
from models.errors import BatchmillError, DatabaseRefused, LockTimeout, SchemaMismatch, Unreachable
from models.failpoints import failpoint
from worker.leasing import database_refusal
from worker.leasing.database_refusal import OnRefusal
from worker.maintenance.tasks import RECLAIM, Duty

log = structlog.get_logger(__name__)

DUE = "SELECT name, due_at, {now} AS now FROM duties"

FIRST_TURN = "INSERT INTO duties (name, due_at) VALUES (:name, {now}) ON CONFLICT (name) DO NOTHING"

# Of several that come at once, whoever moves the moment on has the turn. A moment that lies further ahead than a turn
# does was written before the database's clock stepped back.
TAKE_TURN = """
UPDATE duties SET due_at = {later}, ran_at = {now}, ran_by = :who
WHERE name = :name AND (due_at <= {now} OR due_at > {later})
"""

FAILED = "UPDATE duties SET failed_at = {now}, failure = :failure, due_at = {later} WHERE name = :name"
LONGEST_BACKOFF = 300.0

NOTE = "UPDATE duties SET acted_at = {now}, acted = :acted WHERE name = :name"


def is_due(due_at: datetime, now: datetime, seconds: float) -> bool:
    """Whether a duty's moment has come, or lies further ahead than anybody puts it: then the clock stepped back."""
    return due_at <= now or due_at > now + timedelta(seconds=seconds)


class Duties(Background):
    """One thread for each process. `run_once` does what is due; the loop only sleeps between."""

    def __init__(
        self, database: Database, duties: Iterable[Duty], who: str, *, patience_seconds: float,
        on_outdated: OnRefusal = database_refusal.ignore,
    ) -> None:  # fmt: skip
        super().__init__("duties")
        self._database = database
        self._duties = list(duties)
        self._who = who
        self._patience_seconds = patience_seconds
        self._on_outdated = on_outdated
        self._defects = Defects(log, "a defect in a duty")
        self._due = dict.fromkeys((duty.name for duty in self._duties), 0.0)
        self._known = False
        self._failing: dict[str, tuple[str, int]] = {}  # duties that failed at their last turn: of what, how often
        self._pause = min(duty.seconds for duty in self._duties) / 2

    def run_once(self, now: float) -> None:
        """Do what is due at this moment of the monotonic clock and nobody else has done; raises Unreachable."""
        try:
            mine = [duty for duty in self._duties if now >= self._due[duty.name]]
            waiting = self._waiting() if mine else set()
            for duty in mine:
                self._due[duty.name] = now + duty.seconds
                if duty.name in waiting and not self._stopping.is_set() and self._take_turn(duty):
                    self._do(duty)
        except Unreachable:
            # Leases ran out that nobody could renew: their holders get a moment before they are taken for dead.
            self._due[RECLAIM] = now + self._patience_seconds
            raise

    def _loop(self) -> None:
        while not self._stopping.wait(self._pause):
            try:
                self.run_once(time.monotonic())
            except Unreachable as error:
                log.warning("duties have to wait, will try again", error=str(error))
            except DatabaseRefused as error:
                self._note_refusal(error)
            except Exception as error:  # one duty's defect must not keep the others from being done
                self._defects.note(error)

    def _note_refusal(self, error: DatabaseRefused) -> None:
        log.error("the database refuses a duty", code=error.code, error=str(error))
        if isinstance(schema.explained(self._database, error), SchemaMismatch):
            self._on_outdated(error)

    def _waiting(self) -> set[str]:
        sql = self._database.sql
        if not self._known:
            with self._database.write() as connection:
                for duty in self._duties:
                    connection.execute(text(FIRST_TURN.format(now=sql.now)), {"name": duty.name})
            self._known = True
        seconds = {duty.name: duty.seconds for duty in self._duties}
        query = text(DUE.format(now=sql.now)).columns(column("name"), column("due_at", Moment), column("now", Moment))
        with self._database.read() as connection:
            return {
                row.name
                for row in connection.execute(query)
                if row.name in seconds and is_due(row.due_at, row.now, seconds[row.name])
            }

    def _take_turn(self, duty: Duty) -> bool:
        sql = self._database.sql
        named = {"name": duty.name, "who": self._who, "seconds": duty.seconds}
        query = text(TAKE_TURN.format(now=sql.now, later=sql.later))
        return self._database.transact(lambda connection: connection.execute(query, named).rowcount == 1)

    def _do(self, duty: Duty) -> None:
        failpoint("in_duty")
        try:
            acted = duty.run()
        except LockTimeout as error:  # it is due again soon, and what it met is no reason to keep the others waiting
            log.info("a duty met what others have locked", duty=duty.name, error=str(error))
            return
        except Unreachable:
            raise
        except Exception as error:
            if isinstance(error, DatabaseRefused):
                self._note_refusal(error)
            self._note_failure(duty, error)
            return
        self._failing.pop(duty.name, None)
        if acted:
            log.warning(acted, duty=duty.name)
            with self._database.write() as connection:
                connection.execute(
                    text(NOTE.format(now=self._database.sql.now)), {"name": duty.name, "acted": acted[:1000]}
                )

    def _note_failure(self, duty: Duty, error: Exception) -> None:
        """Put a duty off that can't be done, each time for longer; the traceback of a defect is logged once."""
        kind, times = str(error)[:500] if isinstance(error, BatchmillError) else type(error).__name__, 1
        if (before := self._failing.get(duty.name)) is not None and before[0] == kind:
            times = before[1] + 1
        self._failing[duty.name] = (kind, times)
        trace = None if times > 1 or isinstance(error, BatchmillError) else error
        seconds = min(duty.seconds * 2.0 ** min(times, 16), max(LONGEST_BACKOFF, duty.seconds))
        log.error("duty.failed", duty=duty.name, error=kind, seconds=seconds, exc_info=trace)
        sql = self._database.sql
        with self._database.write() as connection:
            named = {"name": duty.name, "failure": kind, "seconds": seconds}
            connection.execute(text(FAILED.format(now=sql.now, later=sql.later)), named)
