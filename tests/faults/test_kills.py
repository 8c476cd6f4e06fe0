"""Workers that are killed, at the worst places or at any: nothing is lost, done twice, or blamed on an input."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from producer.handle import BatchHandle
from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.factories.batch_rows import assert_usage_equals_counters
from tests.faults.fake_model import (
    FAKE_PIPELINE,
    NO_RESTART,
    assert_outputs,
    count_forward_passes,
    fake_model_deployment,
    numbered_texts,
)

JOBS = 400
KILLS = 10  # on each database

PIDS_AT_WORK = "SELECT DISTINCT w.pid FROM slices s JOIN workers w ON w.id = s.worker_id WHERE s.state = 'leased'"


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, max_claim_jobs="32"
    ) as deployment:
        yield deployment


@pytest.mark.parametrize(
    ("database_url", "point"),
    [
        ("postgresql", "before_claim"),
        ("postgresql", "after_claim"),
        ("postgresql", "mid_forward"),
        ("postgresql", "before_commit"),
        ("postgresql", "after_commit"),
        ("sqlite", "before_commit"),  # the only point at which a worker holds the one write lock
        ("sqlite", "after_commit"),
    ],
    indirect=["database_url"],
)
def test_a_worker_killed_at_a_point_is_followed_by_others(deployment: Deployment, tmp_path: Path, point: str) -> None:
    texts = numbered_texts(JOBS)
    batch = deployment.client.submit(FAKE_PIPELINE, texts)
    kill = {"BATCHMILL_FAILPOINT": f"{point}:kill@2", **NO_RESTART}
    doomed = deployment.start("worker", FAKE_PIPELINE, FAKE_FORWARD_SECONDS="0.05", **kill)
    wait_for(lambda: "exit_status=-9" in deployment.log or '"exit_status": -9' in deployment.log, "a kill")
    doomed.terminate()
    doomed.wait(WAIT_TIMEOUT_SECONDS)
    written = {
        row.position for row in deployment.query("SELECT position FROM results WHERE batch_id = :id", id=batch.id)
    }

    deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_LOG=str(tmp_path / "forward.log"))
    batch.wait(WAIT_TIMEOUT_SECONDS)

    deployment.assert_completed(batch.id, JOBS)
    assert_outputs(deployment, batch.id, texts)
    assert len(written) < JOBS, "the kills came too late to show anything"
    again = count_forward_passes(tmp_path / "forward.log")
    assert set(again) == {text for place, text in enumerate(texts) if place not in written}
    assert set(again.values()) == {1}
    check_attempts(deployment, batch.id)


def test_kills_at_any_moment_cost_only_time(deployment: Deployment) -> None:
    source, texts = random.Random(KILLS), numbered_texts(JOBS)
    supervisor = psutil.Process(
        deployment.start("worker", FAKE_PIPELINE, "--devices", "cpu,cpu", FAKE_FORWARD_SECONDS="0.03").pid
    )
    batches: list[BatchHandle] = []

    def find_at_work() -> list[int]:
        if not batches or batches[-1].refresh().view.counts.unanswered < JOBS // 2:
            batches.append(deployment.client.submit(FAKE_PIPELINE, texts))
        pids = {child.pid for child in supervisor.children()}
        return [row.pid for row in deployment.query(PIDS_AT_WORK) if row.pid in pids]

    for number in range(KILLS):
        time.sleep(source.uniform(0.0, 0.3))  # the fault itself: at any moment, sometimes also while one starts
        at_work = wait_for(find_at_work, "a worker at work") if number % 4 else []
        pids = at_work or [child.pid for child in wait_for(supervisor.children, "a worker")]
        with suppress(psutil.NoSuchProcess):  # one that was just killed, and is being started again
            psutil.Process(source.choice(pids)).kill()

    for batch in batches:
        batch.wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)
        check_attempts(deployment, batch.id)
    killed = deployment.query("SELECT count(DISTINCT worker_id) AS n FROM attempts WHERE outcome = 'killed'")[0].n
    assert killed > 2, "hardly anybody was killed at work"


def check_attempts(deployment: Deployment, batch_id: str) -> None:
    """A job's attempts are the claims that ended with their holder, and the one that answered it; usage has that."""
    assert_usage_equals_counters(deployment.client.database)
    rows = deployment.query(
        """SELECT r.position, r.attempts, r.status,
                  (SELECT count(*) FROM job_attempts a WHERE a.batch_id = r.batch_id AND a.position = r.position
                   AND a.outcome IN ('killed', 'lease_expired', 'crashed', 'hung')
                   AND a.ended_at < r.finished_at) AS deaths
           FROM results r WHERE r.batch_id = :id""",
        id=batch_id,
    )
    assert {row.status for row in rows} == {"succeeded"}
    assert [row for row in rows if row.attempts != row.deaths + 1] == []
