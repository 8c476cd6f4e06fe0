"""A server's watch over the batches that wait for their files to be read: it starts the processes that read them.

One process reads any file, the small ones first. A second one reads small files only, so that those never wait until a
large one is read. A third one runs while both are busy, for tenants that have nothing read, so that one tenant's files
never take all processes.
"""

import time
from collections.abc import Sequence
from typing import Self

from models.errors import DatabaseRefused, FileStoreUnavailable, Unreachable
from models.lifecycle.due_intakes import SMALL_FILE_BYTES
from models.processes.background import PeriodicThread, UnexpectedErrorLog
from models.processes.command_launcher import CommandLauncher
from producer.uploads.intake.intake import Intake, WaitingBatch, log
from producer.uploads.storage import sweeping

CHECK_SECONDS = 0.25
BASE_PAUSE_SECONDS = 0.5
SWEEP_SECONDS, ORPHAN_SWEEP_SECONDS = 60.0, 6 * 3_600.0
EXIT_SECONDS = 5.0
TURN_SECONDS = 2.0  # that a tenant waits before the third process starts: by then the others have begun with a file


class IntakeWatch(PeriodicThread):
    """Looks for such batches until it is stopped; its processes end with this one."""

    def __init__(self, intake: Intake) -> None:
        super().__init__("intake")
        self._intake = intake
        self._any_files = CommandLauncher(intake.settings, ("intake",), BASE_PAUSE_SECONDS)
        self._small_files = CommandLauncher(intake.settings, ("intake", "--small"), BASE_PAUSE_SECONDS)
        self._unserved_tenants = CommandLauncher(intake.settings, ("intake", "--unserved"), BASE_PAUSE_SECONDS)
        self._blocked_since: float | None = None
        self._next_sweep_at = self._next_orphan_sweep_at = 0.0
        self._unexpected_errors = UnexpectedErrorLog(log, "intake.watch_crashed")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the thread and the processes; another server or worker goes on with what they were reading."""
        super().stop()
        for launcher in self._launchers:
            launcher.stop()
        for launcher in self._launchers:
            launcher.wait(EXIT_SECONDS)

    def run_once(self) -> None:
        """Start the processes that are needed and do not run; raises Unreachable."""
        ready = [launcher for launcher in self._launchers if launcher.is_ready()]
        for launcher in self._launchers:
            if (status := launcher.take_failure()) is not None:
                log.warning("intake.process_ended", exit_status=status)
        if not ready:
            return
        is_small_ready, is_any_ready = self._small_files in ready, self._any_files in ready
        waiting = [batch for batch in self._intake.waiting_batches() if self._is_here(batch)]
        has_small = any(batch.size_bytes <= SMALL_FILE_BYTES for batch in waiting)
        has_large = any(batch.size_bytes > SMALL_FILE_BYTES for batch in waiting)
        if has_small and is_small_ready:
            self._start(self._small_files)
        elif has_small and is_any_ready:  # several at a time
            self._start(self._any_files)
        if has_large and self._any_files.is_ready():
            self._start(self._any_files)
        if self._is_tenant_blocked(waiting, time.monotonic()) and self._unserved_tenants in ready:
            self._start(self._unserved_tenants)

    def sweep(self, now: float) -> None:
        """Delete the bytes of deleted files, and from time to time what has no row.

        now: a time of the monotonic clock

        Raises Unreachable and FileStoreUnavailable.
        """
        database, store = self._intake.database, self._intake.store
        if now >= self._next_sweep_at:
            self._next_sweep_at = now + SWEEP_SECONDS
            if count := sweeping.sweep_files(database, store).files:
                log.info("files.deleted", count=count)
        if now >= self._next_orphan_sweep_at:
            self._next_orphan_sweep_at = now + ORPHAN_SWEEP_SECONDS
            if count := sweeping.sweep_orphans(database, store).orphans:
                log.info("files.orphans_deleted", count=count)

    @property
    def _launchers(self) -> tuple[CommandLauncher, ...]:
        return self._small_files, self._any_files, self._unserved_tenants

    def _is_tenant_blocked(self, waiting: Sequence[WaitingBatch], now: float) -> bool:
        """Whether a tenant that has nothing read waits for others' files for some time."""
        is_small_busy, is_any_busy = self._small_files.is_running(), self._any_files.is_running()
        is_blocked = is_any_busy and any(
            is_small_busy or batch.size_bytes > SMALL_FILE_BYTES for batch in waiting if not batch.is_tenant_served
        )
        if not is_blocked:
            self._blocked_since = None
            return False
        self._blocked_since = now if self._blocked_since is None else self._blocked_since
        return now - self._blocked_since >= TURN_SECONDS

    def _loop(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            try:
                self.run_once()
                self.sweep(time.monotonic())
            except (Unreachable, DatabaseRefused, FileStoreUnavailable):
                continue  # requests report it
            except Exception as error:
                self._unexpected_errors.record(error)

    def _is_here(self, batch: WaitingBatch) -> bool:
        return batch.location is None or self._intake.store.has(batch.location)

    @staticmethod
    def _start(launcher: CommandLauncher) -> None:
        retry_seconds = launcher.start()
        if retry_seconds is not None:
            log.warning("intake.start_failed", retry_seconds=retry_seconds)
