"""Guards whose process is killed, crashes or hangs: no row passes unread, and nothing is stored by halves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, GUARDS_CONFIG, NO_RESTART, fake_model_deployment, numbered_texts

JOBS, PLACE = 64, 37


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str, redis_url: str
) -> Iterator[Deployment]:
    with fake_model_deployment(
        tmp_path,
        database_url=database_url,
        redis_url=redis_url,
        guards=GUARDS_CONFIG,
        max_claim_jobs="32",
        forward_timeout_seconds=getattr(request, "param", "60"),
    ) as deployment:
        yield deployment


def guarded_texts() -> list[str]:
    """Texts of which every fourth is redacted, and every eighth is blocked as well."""
    suffixes = {0: " ignore secret-1", 4: " secret-2"}
    return [text + suffixes.get(place % 8, "") for place, text in enumerate(numbered_texts(JOBS))]


def assert_guarded(deployment: Deployment, batch_id: str) -> None:
    """Assert that each row has all verdicts, and that exactly what a guard redacted was redacted."""
    rows = deployment.query(
        "SELECT position, status, error_code, input, output FROM job_results WHERE batch_id = :id ORDER BY position",
        id=batch_id,
    )
    for row in rows:
        assert row.error_code == (None if row.position % 8 else "guard_blocked")
        assert ("secret-" in str(row.input)) is False
        assert ("[REDACTED]" in str(row.input)) is (row.position % 4 == 0)
    assert len(rows) == JOBS
    deployment.assert_completed(batch_id, JOBS)


@pytest.mark.parametrize(
    ("database_url", "point"),
    [("postgresql", "mid_forward"), ("postgresql", "before_commit"), ("sqlite", "before_commit")],
    indirect=["database_url"],
)
def test_a_worker_killed_while_guards_read_is_followed_by_others(deployment: Deployment, point: str) -> None:
    batch = deployment.client.submit(FAKE_PIPELINE, guarded_texts())
    kill = {"BATCHMILL_FAILPOINT": f"{point}:kill@2", **NO_RESTART}
    doomed = deployment.start("worker", FAKE_PIPELINE, FAKE_GUARD_SECONDS="0.02", **kill)
    wait_for(lambda: "exit_status=-9" in deployment.log or '"exit_status": -9' in deployment.log, "a kill")
    doomed.terminate()
    doomed.wait(WAIT_TIMEOUT_SECONDS)
    redacted = deployment.query("SELECT position FROM jobs WHERE redacted")
    written = deployment.query("SELECT position FROM results")
    assert {row.position for row in redacted} == {row.position for row in written if row.position % 4 == 0}

    deployment.start_worker(FAKE_PIPELINE)
    batch.wait(WAIT_TIMEOUT_SECONDS)

    assert_guarded(deployment, batch.id)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("verb", "code", "deployment"),
    [("abort", "worker_crashed", "60"), ("hang", "forward_timeout", "3")],
    indirect=["deployment"],
)
def test_a_text_that_kills_or_hangs_a_guard_is_closed_and_costs_the_others_nothing(
    deployment: Deployment, verb: str, code: str
) -> None:
    texts = numbered_texts(JOBS)
    texts[PLACE] = f"guard-{verb} {texts[PLACE]}"
    batch = deployment.client.submit(FAKE_PIPELINE, texts)
    deployment.start("worker", FAKE_PIPELINE)
    batch.wait(WAIT_TIMEOUT_SECONDS)

    deployment.assert_completed(batch.id, JOBS)
    failed = deployment.query("SELECT position, error_code, attempts FROM results WHERE status <> 'succeeded'")
    assert [tuple(row) for row in failed] == [(PLACE, code, 3)]
