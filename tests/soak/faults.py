"""The faults: each disturbs the plant once, and says whether it could."""

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
from tests.soak.plant import DATABASE, FAST, REAL, Keeper, Plant

VALKEY = "valkey"
HELD = "SELECT id, token FROM slices WHERE worker_id = :worker_id AND state = 'leased'"
FORGED = 100


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed, when by the wall clock, and the `(slice, token)` pairs that it held."""

    worker_id: str
    moment: float
    held: tuple[tuple[int, int], ...]


@dataclass
class Faults:
    """Draws faults from a seed and does them; `kills` are those whose recovery is timed."""

    plant: Plant
    rng: random.Random
    counts: dict[str, int] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)

    def run_once(self) -> None:
        """One fault, of a kind that is possible now."""
        kinds = self._kinds()
        name = self.rng.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
        if kinds[name][1]():
            self.counts[name] = self.counts.get(name, 0) + 1

    def _kinds(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill -9 of a worker": (8, self._kill_worker),
            "kill -9 of a supervisor": (2, self._kill_supervisor),
            "SIGSTOP of a worker past its lease": (3, self._freeze_worker),
            "SIGTERM of a supervisor": (3, self._end_supervisor),
            "kill -9 of a producer": (3, self._kill_producer),
        }
        if VALKEY not in self.plant.frozen:
            kinds |= {
                "FLUSHALL": (2, self._flush),
                "restart of Valkey": (1, self._restart_valkey),
                "SIGSTOP of Valkey": (1, self._freeze_valkey),
                "100 forged and doubled bells": (2, self._forge),
            }
        if self.plant.postgres:
            kinds |= {
                "connections ended": (2, self._cut_connections),
                "PostgreSQL stopped at once": (1, self._crash_postgres),
            }
        else:
            kinds["SQLite locked by another"] = (2, self._lock_sqlite)
        return kinds

    # ---- processes

    def _kill_worker(self) -> bool:
        found = [worker for keeper in self.plant.supervisors for worker in self.plant.workers(keeper)]
        if not found:
            return False
        worker = self.rng.choice(found)
        with suppress(psutil.NoSuchProcess):
            worker_id = worker.cmdline()[-1]
            worker.kill()
            moment = time.time()
            held = self.plant.query(HELD, worker_id=worker_id)
            self.kills.append(Kill(worker_id, moment, tuple((row.id, row.token) for row in held)))
            return True
        return False

    def _kill_supervisor(self) -> bool:
        self.plant.kill(self.rng.choice(self.plant.supervisors))
        return True

    def _freeze_worker(self) -> bool:
        found = [worker for keeper in self.plant.supervisors for worker in self.plant.workers(keeper)]
        if not found:
            return False
        worker = self.rng.choice(found)
        with suppress(psutil.NoSuchProcess):
            worker.send_signal(signal.SIGSTOP)
        self.plant.after(self.plant.settings.lease_seconds * self.rng.uniform(1.2, 2.5), lambda: _resume(worker))
        return True

    def _end_supervisor(self) -> bool:
        keeper = self.rng.choice(self.plant.supervisors)
        process = keeper.process
        if process is None or process.poll() is not None or keeper.wanted:
            return False
        keeper.wanted = True
        process.terminate()
        self.plant.after(3 * self.plant.settings.grace_seconds, lambda: self._ended(keeper, process.pid))
        return True

    def _ended(self, keeper: Keeper, pid: int) -> None:
        if keeper.process and keeper.process.pid == pid and keeper.process.poll() is None:
            self.plant.unsound.append(f"{keeper.name} did not end within three graces")
            keeper.process.kill()

    def _kill_producer(self) -> bool:
        self.plant.kill(self.rng.choice(self.plant.producers))
        return True

    # ---- Valkey

    def _flush(self) -> bool:
        self.plant.valkey.flush()
        return True

    def _restart_valkey(self) -> bool:
        self.plant.valkey.restart()
        return True

    def _freeze_valkey(self) -> bool:
        self.plant.valkey.pause()
        self.plant.frozen.add(VALKEY)
        self.plant.after(self.rng.uniform(1.0, 6.0), self._thaw_valkey)
        return True

    def _thaw_valkey(self) -> None:
        self.plant.valkey.resume()
        self.plant.frozen.discard(VALKEY)

    def _forge(self) -> bool:
        pipeline, there_is = self.rng.choice([FAST, REAL]), self.rng.randrange(1, 500)
        slices = self.rng.choice([[there_is] * FORGED, range(10**9, 10**9 + FORGED), range(-FORGED, 0)])
        with suppress(Unreachable):
            wakeups.ring(self.plant.settings, pipeline, slices)
            wakeups.ring(self.plant.settings, "no-such-pipeline", [1])
            with redis.Redis.from_url(self.plant.valkey.url) as client:
                client.delete(wakeups.queue_name("no-such-pipeline"))
        return True

    # ---- the database

    def _cut_connections(self) -> bool:
        assert self.plant.postgres
        self.plant.postgres.terminate_connections(DATABASE)
        return True

    def _crash_postgres(self) -> bool:
        assert self.plant.postgres
        self.plant.postgres.stop("immediate")
        time.sleep(self.rng.uniform(0.0, 2.0))
        self.plant.postgres.start()
        return True

    def _lock_sqlite(self) -> bool:
        with suppress(Unreachable), self.plant.database.write() as connection:
            connection.execute(text("UPDATE batches SET name = name WHERE status = :one"), {"one": BatchStatus.FAILED})
            time.sleep(self.rng.uniform(0.5, 3.0))
        return True


def _resume(worker: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGCONT)
