"""The intake launcher starts a process that reads uploaded files, if batches wait for it and no server does it."""

import time
from collections.abc import Callable

import structlog
from sqlalchemy import text

from models.db import Database
from models.lifecycle import due_intakes
from models.processes.command_launcher import CommandLauncher
from models.settings import Settings, file_store_ids

log = structlog.get_logger(__name__)

MAX_IDLE_SECONDS = 120.0  # while batches wait that no process of this machine can read, such as for a missing pipeline

# Batches whose file is in no other store than this machine's; those without a file can be read anywhere.
SELECT_HAS_WORK = f"""
SELECT EXISTS (SELECT 1 FROM batches WHERE {due_intakes.IS_WAITING}
  AND NOT EXISTS (SELECT 1 FROM files f WHERE f.id = batches.input_file_id AND f.location NOT LIKE :locations))
"""  # noqa: S608


class IntakeLauncher:
    """Starts `batchmill intake` processes, one at a time; they end with this process.

    A server starts one as soon as it has a file to read, so batches that wait for longer have no server.
    """

    def __init__(self, database: Database, settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._launcher = CommandLauncher(
            settings, ("intake",), settings.schedule_check_seconds, monotonic, MAX_IDLE_SECONDS
        )

    @property
    def has_work_due(self) -> str:
        """An SQL condition for batches that wait, on this or another machine, by the database's clock."""
        return f"EXISTS (SELECT 1 FROM batches WHERE {due_intakes.IS_WAITING.format(later=self._silent_since)})"  # noqa: S608

    def is_running(self) -> bool:
        """Whether a process was started whose end is not known yet."""
        return self._launcher.is_running()

    def is_unfinished(self) -> bool:
        """Whether a process runs, or its failure has still to be returned."""
        return self._launcher.is_unfinished()

    def can_run(self) -> bool:
        """Whether it is not the turn of another machine, which may have the file that this one lacks."""
        return self._launcher.can_run()

    def run_once(self) -> str:
        """Start a process if batches wait and none is running; returns the last one's failure, or ""."""
        if self._launcher.is_ready() and self._has_work():
            retry_seconds = self._launcher.start()
            if retry_seconds is not None:
                log.warning("intake.start_failed", retry_seconds=retry_seconds)
        elif not self._launcher.is_running():
            self._launcher.let_others_run()
        status = self._launcher.take_failure()
        return "" if status is None else f"the reading of an upload ended with {status}"

    @property
    def _silent_since(self) -> str:
        return self._database.sql.seconds_from_now(-due_intakes.SILENT_SECONDS)

    def _has_work(self) -> bool:
        query = text(SELECT_HAS_WORK.format(later=self._silent_since))
        params = {"locations": file_store_ids.location_pattern(self._settings)}
        with self._database.read() as connection:
            has_work = bool(connection.scalar(query, params))
        if not has_work:
            self._launcher.forget_failures()
        return has_work
