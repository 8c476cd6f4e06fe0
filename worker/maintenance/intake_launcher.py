"""The intake launcher starts a process that reads uploaded files, if batches wait for it and no server does it."""

import structlog
from sqlalchemy import text

from models.db import Database
from models.lifecycle import due_intakes
from models.processes.command_launcher import CommandLauncher
from models.settings import Settings

log = structlog.get_logger(__name__)


class IntakeLauncher:
    """Starts `batchmill intake` processes, one at a time; they end with this process.

    A server starts one as soon as it has a file to read, so batches that wait for longer have no server.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._launcher = CommandLauncher(settings, ("intake",), settings.schedule_check_seconds)

    @property
    def has_work_due(self) -> str:
        """An SQL condition for batches that wait, by the database's clock."""
        later = self._database.sql.seconds_from_now(-due_intakes.SILENT_SECONDS)
        return f"EXISTS (SELECT 1 FROM batches WHERE {due_intakes.IS_WAITING.format(later=later)})"  # noqa: S608

    def is_running(self) -> bool:
        """Whether a process was started whose end is not known yet."""
        return self._launcher.is_running()

    def is_unfinished(self) -> bool:
        """Whether a process runs, or its failure has still to be returned."""
        return self._launcher.is_unfinished()

    def can_run(self) -> bool:
        """Whether a process runs or can be started, so that others need not."""
        return self._launcher.can_run()

    def run_once(self) -> str:
        """Start a process if batches wait and none is running; returns the last one's failure, or ""."""
        if self._launcher.is_ready() and self._has_work():
            retry_seconds = self._launcher.start()
            if retry_seconds is not None:
                log.warning("intake.start_failed", retry_seconds=retry_seconds)
        status = self._launcher.take_failure()
        return "" if status is None else f"the reading of an upload ended with {status}"

    def _has_work(self) -> bool:
        with self._database.read() as connection:
            has_work = bool(connection.scalar(text(f"SELECT {self.has_work_due}")))
        if not has_work:
            self._launcher.forget_failures()
        return has_work
