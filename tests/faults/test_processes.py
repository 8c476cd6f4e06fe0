"""Worker processes that are killed, stopped, told to go, or left without a supervisor. Real signals, real servers."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy.exc import OperationalError

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts

TEXTS = numbered_texts(800)
JOBS = len(TEXTS)
# Of the first worker, which still has work when it is disturbed, and of the one that takes over.
SLOW, FAST = {"FAKE_FORWARD_SECONDS": "0.2"}, {"FAKE_FORWARD_SECONDS": "0"}


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    """A deployment whose workers take their time, so that signals arrive in the middle of the work."""
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, max_claim_jobs="64"
    ) as deployment:
        deployment.environment["FAKE_FORWARD_SECONDS"] = "0.03"
        yield deployment


def submit(deployment: Deployment) -> str:
    return deployment.client.submit(FAKE_PIPELINE, TEXTS).id


def check(deployment: Deployment, batch_id: str) -> None:
    deployment.assert_completed(batch_id, JOBS)
    assert_outputs(deployment, batch_id, TEXTS)


def freeze(deployment: Deployment, process: psutil.Process) -> None:
    """Stop a process wherever it is; on SQLite, whose one write lock it would keep for good, between two writes."""
    if "sqlite" not in deployment.environment["BATCHMILL_DATABASE_URL"]:
        process.send_signal(signal.SIGSTOP)
        return
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        try:
            deployment.execute("UPDATE batches SET name = 'free'", lock_timeout_seconds=0.2)
        except OperationalError:
            process.send_signal(signal.SIGCONT)
        else:
            return
    raise AssertionError("the process was never stopped between two writes")


def until_ended(deployment: Deployment, batch_id: str) -> None:
    deployment.client.batch(batch_id).wait(WAIT_TIMEOUT_SECONDS)


def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_done_twice(deployment: Deployment) -> None:
    deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu,cpu")
    victim = deployment.wait_for_workers(2)[0]
    batch_id = submit(deployment)
    deployment.wait_for_results(batch_id, 50)

    psutil.Process(victim).kill()

    deployment.assert_consistent(batch_id)  # with half of the work out, and half of that with nobody
    until_ended(deployment, batch_id)
    check(deployment, batch_id)
    assert deployment.query("SELECT max(attempts) AS most FROM results WHERE batch_id = :id", id=batch_id)[0].most <= 2


def test_workers_end_with_a_killed_supervisor_and_give_their_work_back(deployment: Deployment) -> None:
    supervisor = deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu", **SLOW)
    [child] = [psutil.Process(pid) for pid in deployment.wait_for_workers()]
    batch_id = submit(deployment)
    deployment.wait_for_results(batch_id, 50)

    supervisor.kill()

    child.wait(WAIT_TIMEOUT_SECONDS)
    assert deployment.count_results(batch_id) < JOBS
    deployment.start_worker(FAKE_PIPELINE, **FAST)
    until_ended(deployment, batch_id)
    check(deployment, batch_id)


def test_sigterm_writes_what_is_computed_and_costs_no_attempt(deployment: Deployment) -> None:
    supervisor = deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu", **SLOW)
    deployment.wait_for_workers()
    batch_id = submit(deployment)
    deployment.wait_for_results(batch_id, 50)

    supervisor.terminate()

    assert supervisor.wait(WAIT_TIMEOUT_SECONDS) == 0
    assert deployment.count_results(batch_id) < JOBS
    left = deployment.query("SELECT state, attempts FROM slices WHERE batch_id = :id AND state <> 'done'", id=batch_id)
    assert {(row.state, row.attempts) for row in left} == {("queued", 0)}
    assert deployment.query("SELECT id FROM workers") == []
    deployment.start_worker(FAKE_PIPELINE, **FAST)
    until_ended(deployment, batch_id)
    check(deployment, batch_id)
    assert deployment.query("SELECT max(attempts) AS most FROM results WHERE batch_id = :id", id=batch_id)[0].most == 1


def test_a_zombie_finds_its_lease_gone_drops_the_work_and_goes_on(deployment: Deployment) -> None:
    deployment.start_worker(FAKE_PIPELINE, **SLOW)
    [zombie] = deployment.wait_for_workers()
    batch_id = submit(deployment)
    deployment.wait_for_results(batch_id, 50)

    freeze(deployment, psutil.Process(zombie))
    before = deployment.count_results(batch_id)
    deployment.expire_leases()
    deployment.start_worker(FAKE_PIPELINE, **FAST)
    until_ended(deployment, batch_id)
    psutil.Process(zombie).send_signal(signal.SIGCONT)

    wait_for(lambda: "lost" in deployment.log or '"attempts"' in deployment.log, "the zombie noticing")
    check(deployment, batch_id)
    assert before < JOBS
    second = submit(deployment)
    until_ended(deployment, second)
    check(deployment, second)
    assert psutil.pid_exists(zombie)


def test_a_zombie_in_the_middle_of_a_write_keeps_nobody_waiting(
    tmp_path: Path, postgresql_url: str, redis_url: str
) -> None:
    inputs = TEXTS[: JOBS // 4]
    with fake_model_deployment(
        tmp_path, database_url=postgresql_url, redis_url=redis_url, max_claim_jobs="64"
    ) as deployment:
        zombie = deployment.start_worker(
            FAKE_PIPELINE,
            BATCHMILL_FAILPOINT="before_commit:pause@2",
            BATCHMILL_LEASE_SECONDS="2",  # also the time after which the server ends its silent session
            FAKE_FORWARD_SECONDS="0.01",
        )
        assert deployment.wait_for_workers() == [zombie.pid]
        batch = deployment.client.submit(FAKE_PIPELINE, inputs)
        wait_for(lambda: in_a_write(deployment), "the zombie holding the batch's row")
        zombie.send_signal(signal.SIGSTOP)
        before = deployment.count_results(batch.id)

        deployment.start_worker(FAKE_PIPELINE)
        batch.wait(WAIT_TIMEOUT_SECONDS)  # the server ends the zombie's session, and with it its locks
        zombie.send_signal(signal.SIGCONT)
        zombie.send_signal(signal.SIGUSR1)

        wait_for(lambda: "leases.lost" in deployment.log, "the zombie noticing")
        assert before < len(inputs)
        deployment.assert_completed(batch.id, len(inputs))
        assert_outputs(deployment, batch.id, inputs)
        assert (zombie.poll(), zombie.pid in deployment.ready_worker_pids()) == (None, True)


def in_a_write(deployment: Deployment) -> bool:
    """Whether somebody's transaction stands still, with results in it that nobody else can see."""
    return bool(
        deployment.query(
            """SELECT 1 FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
               WHERE a.datname = current_database() AND a.state = 'idle in transaction'
               AND l.relation = 'results'::regclass AND l.mode = 'RowExclusiveLock'"""
        )
    )
