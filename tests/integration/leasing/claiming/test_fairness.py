"""Who goes first: small batches behind a large one, priorities and deadlines, as a real worker takes and answers them.

What is looked at is order by the database's clock, never how long anything took.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment
from tests.faults.fake_model import FAKE_PIPELINE, assert_outputs, fake_model_deployment, numbered_texts, to_jsonl

SLICE, WINDOW = 16, 64
LARGE = 1_600  # twenty seconds at the slower pace, at the least

CLAIMED_MEANWHILE = """
SELECT count(*) AS slices FROM slices WHERE batch_id = :large
  AND first_claimed_at > :since
  AND first_claimed_at < (SELECT min(first_claimed_at) FROM slices WHERE batch_id = :small)
"""

ANSWERED_BEFORE_ITS_END = """
SELECT count(*) AS jobs FROM results WHERE batch_id = :large
  AND finished_at <= (SELECT completed_at FROM batches WHERE id = :small)
"""

CLAIMS = "SELECT min(first_claimed_at) AS first, max(first_claimed_at) AS last FROM slices WHERE batch_id = :id"


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    """A deployment whose claims take a window of four slices."""
    settings = {"max_claim_jobs": str(WINDOW), "linger_ms": "0"}
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, slice_size=SLICE, **settings
    ) as deployment:
        yield deployment


def start_worker(deployment: Deployment, forward_seconds: str) -> None:
    deployment.start_worker(FAKE_PIPELINE, FAKE_FORWARD_SECONDS=forward_seconds)
    deployment.wait_for_workers()


def submitted_first(deployment: Deployment, jobs: int) -> str:
    """The id of a batch that the command submitted to go first."""
    options = ("-p", FAKE_PIPELINE, "--priority", "1")
    done = deployment.invoke("submit", "-", *options, stdin=to_jsonl(numbered_texts(jobs)))
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def answered_before_the_end_of(deployment: Deployment, small: str, large: str) -> int:
    """How many of the large batch's results there were when the small one ended."""
    jobs: int = deployment.query(ANSWERED_BEFORE_ITS_END, small=small, large=large)[0].jobs
    return jobs


def test_a_small_batch_behind_a_large_one_is_served_after_a_window(deployment: Deployment) -> None:
    start_worker(deployment, "0.1")
    large = deployment.client.submit(FAKE_PIPELINE, numbered_texts(LARGE))
    deployment.wait_for_results(large.id, WINDOW)

    small = deployment.client.submit(FAKE_PIPELINE, numbered_texts(WINDOW))
    since = deployment.query(f"SELECT {deployment.client.database.sql.now} AS now")[0].now  # workers see it by now
    small.wait(WAIT_TIMEOUT_SECONDS)

    deployment.assert_completed(small.id, WINDOW)
    assert_outputs(deployment, small.id, numbered_texts(WINDOW))
    between = deployment.query(CLAIMED_MEANWHILE, small=small.id, large=large.id, since=since)[0].slices
    assert between <= WINDOW // SLICE, "only of a claim that had looked already when the small batch came"
    assert WINDOW <= answered_before_the_end_of(deployment, small.id, large.id) < LARGE // 2
    deployment.assert_consistent(large.id)


def test_priorities_go_first_and_then_the_nearest_deadlines(deployment: Deployment) -> None:
    large = deployment.client.submit(FAKE_PIPELINE, numbered_texts(LARGE // 4)).id
    later = deployment.client.submit(FAKE_PIPELINE, numbered_texts(WINDOW), deadline="6h").id
    soon = deployment.client.submit(FAKE_PIPELINE, numbered_texts(WINDOW), deadline="1h").id
    urgent = submitted_first(deployment, WINDOW)
    in_order = [urgent, soon, later, large]

    start_worker(deployment, "0.02")
    for batch_id in in_order:
        deployment.client.batch(batch_id).wait(WAIT_TIMEOUT_SECONDS)

    claims = [deployment.query(CLAIMS, id=batch_id)[0] for batch_id in in_order]
    for one, following in itertools.pairwise(claims):
        assert one.last <= following.first
    for batch_id in (urgent, soon, later):
        deployment.assert_completed(batch_id, WINDOW)
        assert answered_before_the_end_of(deployment, batch_id, large) < LARGE // 8
    deployment.assert_completed(large, LARGE // 4)
