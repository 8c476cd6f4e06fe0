"""Mourning: a supervisor that saw its worker die gives back at once what was leased to it, instead of after a lease."""

import os
import signal
import time

import structlog
from sqlalchemy import text

from models.db import Database
from models.errors import DatabaseRefused, LoadFailed, Unreachable
from models.lifecycle import wakeups
from models.settings import Settings
from models.states import AttemptEnding
from worker.exit_status import HUNG, OUTDATED
from worker.leasing import load_failures, reclaim
from worker.leasing.load_backoff import LoadBackoff
from worker.leasing.load_failures import Place
from worker.supervisor.supervisor import Death

log = structlog.get_logger(__name__)

# What others send; the rest (an abort, a segmentation fault) a process does to itself.
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGSTOP})
TOLD_TO_GO = frozenset(128 + number for number in FROM_OUTSIDE)

TRIES, PAUSE_SECONDS = 3, 0.3

# A process that ends while it loads a model would end so again: its successor begins with its other pipelines.
LOADING = "SELECT pipeline, model, host, device FROM workers WHERE id = :worker_id AND state = 'loading'"

WORKER_GONE = "DELETE FROM workers WHERE id = :worker_id"


def how(death: Death) -> AttemptEnding:
    """Whether it died of its own, perhaps of an input, or was killed from outside. Pure."""
    if death.status == HUNG:
        return AttemptEnding.HUNG
    if death.status == OUTDATED:
        return AttemptEnding.KILLED
    if death.status == -signal.SIGKILL:
        return AttemptEnding.DIED if death.starved else AttemptEnding.KILLED
    if death.status < 0:
        return AttemptEnding.KILLED if -death.status in FROM_OUTSIDE else AttemptEnding.DIED
    return (
        AttemptEnding.DIED if death.status >= os.EX_USAGE and death.status not in TOLD_TO_GO else AttemptEnding.KILLED
    )


class Mourning:
    """Told of deaths by the supervisor; where the database is away, leases run out by themselves."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def __call__(self, death: Death) -> None:
        """Give back what the dead worker held, and wake somebody for it."""
        for _ in range(TRIES):
            try:
                self._give_back(death)
            except Unreachable as error:
                log.warning("can't give back yet what a dead worker held", worker=death.name, error=str(error))
                time.sleep(PAUSE_SECONDS)
            except DatabaseRefused as error:
                log.error("can't give back what a dead worker held", worker=death.name, error=str(error))
                return
            else:
                return

    def _give_back(self, death: Death) -> None:
        ending = how(death)
        self._note_load(death, ending)
        found = reclaim.of_worker(self._database, death.name, ending, self._settings.max_attempts)
        with self._database.write() as connection:
            connection.execute(text(WORKER_GONE), {"worker_id": death.name})
        if not found:
            return
        log.warning(
            "gave back what a dead worker held", worker=death.name, ending=ending.value, queued=found.queued,
            split=found.split, buried=found.buried,
        )  # fmt: skip
        for pipeline, slice_ids in found.bells.items():
            try:
                wakeups.ring(self._settings, pipeline, slice_ids)
            except Unreachable as error:
                log.warning("could not ring for it; others will find it in SQL", error=str(error))

    def _note_load(self, death: Death, ending: AttemptEnding) -> None:
        with self._database.read() as connection:
            row = connection.execute(text(LOADING), {"worker_id": death.name}).one_or_none()
        if row is None:
            return
        tries, _ = load_failures.of_seat(self._database, death.name).get(row.pipeline, (0, 0.0))
        how_it_ended = "ran out of memory" if death.starved else f"ended (exit status {death.status}, {ending.value})"
        error = LoadFailed(f"the process {how_it_ended} while it loaded {row.model}")
        place, pause = Place(death.name, row.host, row.device), LoadBackoff.bound(tries + 1)
        load_failures.record(self._database, place, row.pipeline, row.model, error, pause)
        log.error("a worker ended while it loaded a pipeline", failed=row.pipeline, error=str(error), seconds=pause)
