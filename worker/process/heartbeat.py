"""The heartbeat thread renews this process's leases and updates its row in `workers`."""

import os
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any

import structlog
from sqlalchemy import Connection, text

from models.db import Database
from models.documents import to_json
from models.errors import DatabaseRefused, Unreachable
from models.pipelines.pipeline import Pipeline
from models.processes.background import PeriodicThread, UnexpectedErrorLog
from models.states import WorkerState
from worker.leasing import database_refusal
from worker.leasing.claiming import claims
from worker.leasing.database_refusal import OnRefusal
from worker.leasing.leases import Claimant, HeldLeases
from worker.leasing.load_problems import load_failures
from worker.leasing.load_problems.peer_watch import STALE_WORKER_SECONDS
from worker.process.database_contact import DatabaseContact

log = structlog.get_logger(__name__)

INSERT_WORKER = """
INSERT INTO workers (id, host, pid, device, pipeline, model, revision, served_pipelines, guards, state, state_since)
VALUES (:id, :host, :pid, :device, :pipeline, :model, :revision, :served_pipelines, :guards, :state, {now})
"""

UPDATE_WORKER_STATE = """
UPDATE workers SET pipeline = :pipeline, model = :model, revision = :revision, device = :device, state = :state,
       state_since = {now}
WHERE id = :id
"""

# Matches no row if another process deleted it as stale; the heartbeat then inserts it again.
UPDATE_HEARTBEAT = "UPDATE workers SET heartbeat_at = {now} WHERE id = :id"

# Leases of a worker without heartbeats expire long before its row is deleted here. Locked rows are skipped: two
# processes that both slept for an hour, each with its row locked, would otherwise wait for each other.
DELETE_STALE_WORKERS = """
DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE heartbeat_at < {later} ORDER BY id {skip_locked})
"""
PRUNE_INTERVAL_SECONDS = 60.0


class Heartbeat(PeriodicThread):
    """Renews leases in a background thread; `run_once` does the work, and the loop only waits between calls.

    contact: since when heartbeats have come through without a gap.
    """

    def __init__(
        self,
        database: Database,
        held_leases: HeldLeases,
        served_pipelines: Mapping[str, str],
        *,
        lease_seconds: float,
        heartbeat_seconds: float,
        guards: Mapping[str, Collection[str]] | None = None,
        on_refusal: OnRefusal = database_refusal.ignore_refusal,
    ) -> None:
        """Prepare the thread.

        served_pipelines: the hash of each one's settings
        guards: the names of the guards of each
        """
        super().__init__("heartbeat")
        self.contact = DatabaseContact(lease_seconds)
        self._on_refusal = on_refusal
        self._unexpected_errors = UnexpectedErrorLog(log, "heartbeat.crashed")
        self._database = database
        self._held_leases = held_leases
        self._served_pipelines = dict(served_pipelines)
        self._guards = {pipeline: list(names) for pipeline, names in (guards or {}).items() if names}
        self._lease_seconds = lease_seconds
        self._worker_row: dict[str, Any] = {}
        self._heartbeat_seconds = heartbeat_seconds
        self._next_prune_at = 0.0  # by the monotonic clock

    def record_ready(self, claimant: Claimant, device: str) -> None:
        """Record that this worker runs a pipeline now, and insert its row if there is none."""
        self._save_worker_row(
            WorkerState.READY, claimant.worker_id, claimant.pipeline, claimant.model, claimant.revision, device
        )

    def record_state(self, state: WorkerState, worker_id: str, pipeline: Pipeline, device: str) -> None:
        """Record a state in which this worker can't claim, and the pipeline that it concerns."""
        self._save_worker_row(state, worker_id, pipeline.name, pipeline.model, None, device)

    def _save_worker_row(
        self, state: WorkerState, worker_id: str, pipeline: str, model: str, revision: str | None, device: str
    ) -> None:
        self._worker_row = {
            "id": worker_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "device": device,
            "pipeline": pipeline,
            "model": model,
            "revision": revision,
            "served_pipelines": to_json(self._served_pipelines),
            "guards": to_json(self._guards) if self._guards else None,
            "state": state.value,
        }
        now = self._database.sql.now
        with self._database.write() as connection:
            if connection.execute(text(UPDATE_WORKER_STATE.format(now=now)), self._worker_row).rowcount == 0:
                connection.execute(text(INSERT_WORKER.format(now=now)), self._worker_row)

    def stop(self) -> None:
        """Stop the thread and delete the worker's row."""
        super().stop()
        try:
            with self._database.write() as connection:
                connection.execute(text("DELETE FROM workers WHERE id = :id"), {"id": self._worker_row.get("id")})
                load_failures.clear(connection, str(self._worker_row.get("id")))
        except (DatabaseRefused, Unreachable) as error:
            log.warning("worker.deregister_failed", error=str(error), reason="its row goes stale by itself")

    def close(self) -> None:
        """Close the database connection."""
        self._database.close()

    def run_once(self) -> None:
        """Renew all held leases and the worker's row, and sometimes delete stale rows. Raises Unreachable."""
        leases = self._held_leases.leases()
        if leases:
            with self._database.write() as connection:
                lost = claims.renew(connection, self._database.sql, leases, self._lease_seconds)
                self._update_worker_row(connection)
            if lost:
                self._held_leases.discard(lost)
                log.warning("leases.lost", slice_ids=[lease.slice_id for lease in lost])
        else:
            with self._database.statement(read_only=False) as connection:
                self._update_worker_row(connection)
        self.contact.record()
        if time.monotonic() >= self._next_prune_at:
            self._prune()
            self._next_prune_at = time.monotonic() + PRUNE_INTERVAL_SECONDS

    def _update_worker_row(self, connection: Connection) -> None:
        now = self._database.sql.now
        if (
            self._worker_row
            and connection.execute(text(UPDATE_HEARTBEAT.format(now=now)), self._worker_row).rowcount == 0
        ):
            connection.execute(text(INSERT_WORKER.format(now=now)), self._worker_row)

    def _prune(self) -> None:
        """Delete the rows of workers that disappeared."""
        sql = self._database.sql
        delete_stale = text(DELETE_STALE_WORKERS.format(later=sql.now_plus_seconds, skip_locked=sql.skip_locked))
        with self._database.write() as connection:
            connection.execute(delete_stale, {"seconds": -STALE_WORKER_SECONDS})
            load_failures.prune(connection, sql, STALE_WORKER_SECONDS)

    def _loop(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = self._heartbeat_seconds
            try:
                self.run_once()
            except Unreachable as error:
                pause = self._heartbeat_seconds / 2  # a lease may expire soon
                log.warning("heartbeat.failed", error=str(error), retry_seconds=pause)
            except DatabaseRefused as error:
                log.error("heartbeat.failed", error_code=error.code, error=str(error))
                self._on_refusal(error)
            except Exception as error:  # without a heartbeat, the process would lose all its leases
                self._unexpected_errors.record(error)
