"""The number of connections of a process to PostgreSQL; none of its threads waits in vain for one."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import event, make_url, text

from models import db, schema
from models.db import Database, PoolOptions
from models.errors import LockTimeout, Unreachable
from models.settings import Settings
from tests.deployment import WAIT_TIMEOUT_SECONDS, wait_for
from tests.factories.batch_rows import (
    claimant_for,
    execute,
    expire_leases,
    get_slice,
    get_unanswered_jobs,
    insert_batch,
)
from tests.faults.fake_model import FAKE_PIPELINE, daily_schedule, fake_model_deployment, numbered_texts, to_jsonl
from worker.leasing import commit
from worker.leasing.claiming import claims
from worker.leasing.job_results import BatchCommit, JobResult
from worker.leasing.leases import HeldLeases, Lease
from worker.process import main
from worker.process.heartbeat import Heartbeat

ROOT = Path(__file__).parents[2]
KINDS = ("worker", "supervisor", "tick", "submit")  # in the order of the table in docs/how-to/postgresql.md


def documented() -> dict[str, int]:
    """The most connections of each kind of process, as the page says."""
    section = (ROOT / "docs" / "how-to" / "postgresql.md").read_text("utf-8").partition("\n## Connections\n")[2]
    cells = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")][1:]
    most = {kind: max(map(int, re.findall(r"\d+", cell))) for kind, cell in zip(KINDS, cells, strict=False)}
    return most | {"maintain": most["supervisor"]}


MOST = documented()


class Watcher:
    """Looks all the time how many connections each process under this one has to a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self.most: dict[str, int] = {}

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stopping.wait(0.1):
            for child in psutil.Process().children(recursive=True):
                try:
                    if (kind := _kind(child.cmdline())) is None:
                        continue
                    there = sum(1 for each in child.net_connections() if each.raddr and each.raddr.port == self._port)
                except psutil.Error:
                    continue
                self.most[kind] = max(self.most.get(kind, 0), there)


def _kind(words: list[str]) -> str | None:
    if "worker.process" in words:
        return "worker"
    if "tick" in words:
        return "tick"
    return {"worker": "supervisor", "maintain": "maintain", "submit": "submit"}.get(words[4] if len(words) > 4 else "")


def test_a_deployment_at_work(tmp_path: Path, postgresql_url: str, redis_url: str) -> None:
    """Claims, writes, heartbeats, maintenance, a schedule with an output table, and submits that reuse."""
    schedule = daily_schedule(tmp_path, numbered_texts(300))
    settings = {"database_url": postgresql_url, "redis_url": redis_url, "retention_days": "365"}
    with (
        fake_model_deployment(tmp_path, **settings) as deployment,
        Watcher(make_url(postgresql_url).port or 5432) as watcher,
    ):
        made = deployment.invoke(*schedule)
        assert made.returncode == 0, made.stderr
        assert deployment.invoke("schedule", "trigger", "daily").returncode == 0
        deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu", FAKE_FORWARD_SECONDS="0.001")
        deployment.start("maintain")
        deployment.wait_for_workers()
        for _ in range(2):
            submitted = deployment.run(
                "submit", "-", "--pipeline", FAKE_PIPELINE, "--reuse", "--wait", stdin=to_jsonl(numbered_texts(1200))
            )
            assert submitted.returncode == 0, submitted.stderr
        wait_for(lambda: deployment.query("SELECT 1 FROM runs WHERE state = 'completed'"), "a run of the schedule")
        lasting = ("worker", "supervisor", "maintain")
        wait_for(lambda: all(watcher.most.get(kind, 0) >= MOST[kind] for kind in lasting), "all connections")

    assert watcher.most.keys() == MOST.keys()
    assert all(watcher.most[kind] <= MOST[kind] for kind in MOST), watcher.most


def test_processes_that_have_worked_keep_as_many_as_documented(
    tmp_path: Path, postgresql_url: str, redis_url: str
) -> None:
    """Two worker processes, their supervisor and `maintain`: 2 D + M."""
    with fake_model_deployment(tmp_path, database_url=postgresql_url, redis_url=redis_url) as deployment:
        deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu,cpu", FAKE_FORWARD_SECONDS="0.01")
        deployment.start("maintain")
        deployment.wait_for_workers(2)
        done = deployment.run("submit", "-", "--pipeline", FAKE_PIPELINE, "--wait", stdin=to_jsonl(numbered_texts(400)))
        assert done.returncode == 0, done.stderr

        count = (
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        wait_for(lambda: deployment.query(count)[0].n == 2 * 2 + 2, "the connections that the page counts")


@pytest.fixture
def pools(postgresql_url: str) -> Iterator[tuple[Database, Database]]:
    """A worker process' two: for what it writes, and for claims and the heartbeat."""
    both = tuple(Database(postgresql_url, pool=PoolOptions(max_connections=1)) for _ in range(2))
    yield both[0], both[1]
    for each in both:
        each.close()


def held(database: Database, leases: list[Lease]) -> HeldLeases:
    holdings = HeldLeases()
    holdings.add(leases, get_unanswered_jobs(database, leases))
    return holdings


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestLeases:
    def test_they_are_renewed_while_a_long_write_goes_on(
        self, postgresql_url: str, pools: tuple[Database, Database]
    ) -> None:
        writing, beating = pools
        batch_id = insert_batch(writing, 12, slice_size=4)
        leases = claims.claim(beating, claimant_for(), 12, 4)
        heart = Heartbeat(beating, held(beating, leases), {}, lease_seconds=30, heartbeat_seconds=5)
        written, goes_on = threading.Event(), threading.Event()
        first, *others = leases

        def writes() -> None:
            answers = [JobResult(first, first.start_position, commit.JobOutcome.SUCCEEDED, output="{}")]
            with writing.write() as connection:
                commit.commit_results(connection, BatchCommit([first], answers, set()))
                written.set()
                assert goes_on.wait(WAIT_TIMEOUT_SECONDS)

        thread = in_a_thread(writes)
        assert written.wait(WAIT_TIMEOUT_SECONDS)
        let_lapse_without_waiting(postgresql_url, others)
        began_at = time.time()
        heart.run_once()
        was_writing = thread.is_alive()

        renewed = [get_slice(beating, lease).lease_expires_at for lease in others]
        goes_on.set()
        thread.join()
        assert was_writing, "the heartbeat waited for the write"
        assert all(moment.timestamp() > began_at + 20 for moment in renewed)
        assert batch_id == first.batch_id

    def test_what_is_being_written_is_not_lost(self, pools: tuple[Database, Database]) -> None:
        writing, beating = pools
        insert_batch(writing, 4, slice_size=4)
        [lease] = claims.claim(beating, claimant_for(), 4, 4)
        with writing.write() as connection:
            commit.commit_results(connection, BatchCommit([lease], [], {lease.slice_id}))
            with beating.write() as other:
                assert claims.renew(other, beating.sql, [lease], 30) == []

        with beating.write() as other:
            assert claims.renew(other, beating.sql, [lease], 30) == [], "closed by ourselves"

    def test_they_are_renewed_while_a_claim_goes_on_and_on(
        self, pools: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A claim of many jobs reads their sizes in portions, and the heartbeat has its turn in between."""
        writing, beating = pools
        insert_batch(writing, 4000, slice_size=4)
        leases = claims.claim(beating, claimant_for(), 2000, 4)
        heart = Heartbeat(beating, held(beating, leases[:4]), {}, lease_seconds=30, heartbeat_seconds=5)
        monkeypatch.setattr(claims, "READ_CHUNK_JOBS", 4)
        ended, portions, waits = threading.Event(), [], []

        @event.listens_for(beating.engine, "after_cursor_execute")
        def note_portion(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "jsonb_to_recordset" in statement:
                portions.append(statement)

        def reads() -> None:
            while not ended.is_set():
                claims.unanswered_job_sizes(beating, leases)

        thread = in_a_thread(reads)
        for _ in range(5):
            before = len(portions)
            heart.run_once()
            waits.append(len(portions) - before)
        ended.set()
        thread.join()

        assert max(waits) < len(leases) // 2, "the portions of a claim that passed before a heartbeat"


def let_lapse_without_waiting(url: str, leases: list[Lease]) -> None:
    other = Database(url)
    expire_leases(other, *leases)
    other.close()


class TestWhatOthersLock:
    def test_an_impatient_transaction_gives_its_connection_back(self, postgresql_url: str) -> None:
        database, others = Database(postgresql_url, pool=PoolOptions(1)), Database(postgresql_url)
        batch_id = insert_batch(others, 1)
        with others.write() as connection:
            connection.execute(text("UPDATE batches SET name = 'theirs' WHERE id = :id"), {"id": batch_id})
            with pytest.raises(LockTimeout, match="another transaction keeps locked"):
                execute(database.with_lock_timeout(0.2), "UPDATE batches SET name = 'ours' WHERE id = :id", id=batch_id)
            execute(database, "UPDATE workers SET pid = 1")
        execute(database, "UPDATE batches SET name = 'ours' WHERE id = :id", id=batch_id)

        for each in (database, others):
            each.close()

    def test_a_role_s_own_lock_timeout_is_tried_again(self, postgresql_url: str) -> None:
        hasty = f"{postgresql_url}?options=-c%20lock_timeout%3D50"
        database, others = Database(hasty), Database(postgresql_url)
        batch_id = insert_batch(others, 1)
        refused, unlocked = threading.Event(), threading.Event()

        @event.listens_for(database.engine, "handle_error")
        def wait_until_unlocked(_context: object) -> None:
            refused.set()
            assert unlocked.wait(WAIT_TIMEOUT_SECONDS)

        with others.write() as connection:
            connection.execute(text("UPDATE batches SET name = 'theirs' WHERE id = :id"), {"id": batch_id})
            query = text("UPDATE batches SET name = 'ours' WHERE id = :id")
            thread = in_a_thread(lambda: database.transact(lambda found: found.execute(query, {"id": batch_id})))
            assert refused.wait(WAIT_TIMEOUT_SECONDS)
        unlocked.set()
        thread.join()

        with database.read() as connection:
            assert connection.scalar(text("SELECT name FROM batches WHERE id = :id"), {"id": batch_id}) == "ours"
        for each in (database, others):
            each.close()


class TestPools:
    def test_no_more_than_they_may(self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(db, "POOL_TIMEOUT_SECONDS", 0.2)
        database = Database(postgresql_url, pool=PoolOptions(max_connections=1))

        with database.read(), pytest.raises(Unreachable, match="each connection of this process is in use"):
            schema.current_version(database)
        assert schema.current_version(database) == schema.HEAD
        database.close()

    def test_what_processes_open(self, postgresql_url: str) -> None:
        database = schema.open_database(Settings(database_url=postgresql_url), max_connections=1)

        assert (database.engine.pool.size(), database.engine.pool._max_overflow) == (1, 0)  # type: ignore[attr-defined]
        assert Settings().lease_seconds / 10 > main.LOCK_TIMEOUT_SECONDS
        database.close()
