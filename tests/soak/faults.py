"""The faults; each method injects one into the cluster, and returns whether it could."""

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import psutil
import redis
from sqlalchemy import text

from models.errors import Unreachable
from models.lifecycle import wakeups
from models.states import BatchStatus
from tests.soak.cluster import DATABASE_NAME, FAKE_PIPELINE, REAL, Cluster, RestartingProcess

VALKEY = "valkey"
SELECT_HELD_SLICES = "SELECT id, fencing_token FROM slices WHERE worker_id = :worker_id AND state = 'leased'"
FORGED_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class WorkerKill:
    """A worker that was killed, when by the wall clock, and the `(slice, fencing token)` pairs that it held."""

    worker_id: str
    killed_at: float
    held_slices: tuple[tuple[int, int], ...]


@dataclass
class FaultInjector:
    """Injects faults that a seed selects; `kills` are those whose recovery is measured."""

    cluster: Cluster
    rng: random.Random
    counts: dict[str, int] = field(default_factory=dict)
    kills: list[WorkerKill] = field(default_factory=list)

    def run_once(self) -> None:
        """Inject a fault of a kind that is possible now."""
        kinds = self._possible_faults()
        name = self.rng.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
        if kinds[name][1]():
            self.counts[name] = self.counts.get(name, 0) + 1

    def _possible_faults(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill -9 of a worker": (8, self._kill_worker),
            "kill -9 of a supervisor": (2, self._kill_supervisor),
            "SIGSTOP of a worker past its lease": (3, self._freeze_worker),
            "SIGTERM of a supervisor": (3, self._stop_supervisor),
            "kill -9 of a producer": (3, self._kill_producer),
        }
        if VALKEY not in self.cluster.frozen_names:
            kinds |= {
                "FLUSHALL": (2, self._flush_valkey),
                "restart of Valkey": (1, self._restart_valkey),
                "SIGSTOP of Valkey": (1, self._freeze_valkey),
                "100 forged and duplicate wakeups": (2, self._send_forged_messages),
            }
        if self.cluster.postgres:
            kinds |= {
                "connections ended": (2, self._cut_connections),
                "PostgreSQL stopped at once": (1, self._crash_postgres),
            }
        else:
            kinds["SQLite locked by another"] = (2, self._lock_sqlite)
        return kinds

    # ---- processes

    def _kill_worker(self) -> bool:
        workers = [
            worker for supervisor in self.cluster.supervisors for worker in self.cluster.worker_processes(supervisor)
        ]
        if not workers:
            return False
        worker = self.rng.choice(workers)
        with suppress(psutil.NoSuchProcess, IndexError):  # a process that has just ended has no command line
            worker_id = worker.cmdline()[-1]
            worker.kill()
            moment = time.time()
            held = self.cluster.query(SELECT_HELD_SLICES, worker_id=worker_id)
            self.kills.append(WorkerKill(worker_id, moment, tuple((row.id, row.fencing_token) for row in held)))
            return True
        return False

    def _kill_supervisor(self) -> bool:
        self.cluster.kill(self.rng.choice(self.cluster.supervisors))
        return True

    def _freeze_worker(self) -> bool:
        workers = [
            worker for supervisor in self.cluster.supervisors for worker in self.cluster.worker_processes(supervisor)
        ]
        if not workers:
            return False
        worker = self.rng.choice(workers)
        with suppress(psutil.NoSuchProcess):
            worker.send_signal(signal.SIGSTOP)
        self.cluster.call_later(
            self.cluster.settings.lease_seconds * self.rng.uniform(1.2, 2.5), lambda: _resume_worker(worker)
        )
        return True

    def _stop_supervisor(self) -> bool:
        supervisor = self.rng.choice(self.cluster.supervisors)
        process = supervisor.process
        if process is None or process.poll() is not None or supervisor.exit_expected:
            return False
        supervisor.exit_expected = True
        process.terminate()
        self.cluster.call_later(
            3 * self.cluster.settings.grace_seconds, lambda: self._check_stopped(supervisor, process.pid)
        )
        return True

    def _check_stopped(self, restarting_process: RestartingProcess, pid: int) -> None:
        if (
            restarting_process.process
            and restarting_process.process.pid == pid
            and restarting_process.process.poll() is None
        ):
            self.cluster.unexpected_exits.append(f"{restarting_process.name} did not end within three grace periods")
            restarting_process.process.kill()

    def _kill_producer(self) -> bool:
        self.cluster.kill(self.rng.choice(self.cluster.producers))
        return True

    # ---- Valkey

    def _flush_valkey(self) -> bool:
        self.cluster.valkey.flush()
        return True

    def _restart_valkey(self) -> bool:
        self.cluster.valkey.restart()
        return True

    def _freeze_valkey(self) -> bool:
        self.cluster.valkey.pause()
        self.cluster.frozen_names.add(VALKEY)
        self.cluster.call_later(self.rng.uniform(1.0, 6.0), self._resume_valkey)
        return True

    def _resume_valkey(self) -> None:
        self.cluster.valkey.resume()
        self.cluster.frozen_names.discard(VALKEY)

    def _send_forged_messages(self) -> bool:
        with suppress(Unreachable):
            wakeups.send_wakeups(self.cluster.settings, self.rng.choice([FAKE_PIPELINE, REAL]), FORGED_MESSAGES)
            wakeups.send_wakeups(self.cluster.settings, "no-such-pipeline", 1)
            with redis.Redis.from_url(self.cluster.valkey.url) as client:
                client.delete(wakeups.queue_name("no-such-pipeline"))
        return True

    # ---- the database

    def _cut_connections(self) -> bool:
        assert self.cluster.postgres
        self.cluster.postgres.terminate_connections(DATABASE_NAME)
        return True

    def _crash_postgres(self) -> bool:
        assert self.cluster.postgres
        self.cluster.postgres.stop("immediate")
        time.sleep(self.rng.uniform(0.0, 2.0))
        self.cluster.postgres.start()
        return True

    def _lock_sqlite(self) -> bool:
        with suppress(Unreachable), self.cluster.database.write() as connection:
            connection.execute(
                text("UPDATE batches SET name = name WHERE status = :status"), {"status": BatchStatus.FAILED}
            )
            time.sleep(self.rng.uniform(0.5, 3.0))
        return True


def _resume_worker(worker: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGCONT)
