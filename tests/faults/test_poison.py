"""Inputs that fail, or that kill whoever runs them: they are named, and their neighbours have their answers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment import WAIT_TIMEOUT_SECONDS, Deployment
from tests.faults.fake_model import FAKE_PIPELINE, count_forward_passes, fake_model_deployment, numbered_texts

JOBS, PLACE = 64, 37


@pytest.fixture
def deployment(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Deployment]:
    with fake_model_deployment(
        tmp_path, database_url=database_url, redis_url=redis_url, retry_base_seconds="0.1"
    ) as deployment:
        yield deployment


def with_one(verb: str) -> list[str]:
    texts = numbered_texts(JOBS)
    texts[PLACE] = f"{verb} {texts[PLACE]}"
    return texts


def outcome(deployment: Deployment, batch_id: str) -> tuple[str, int]:
    """The one failure's code and its attempts; all others have succeeded."""
    rows = deployment.query(
        "SELECT position, status, error_code, attempts FROM results WHERE batch_id = :id ORDER BY position", id=batch_id
    )
    [failed] = [row for row in rows if row.status != "succeeded"]
    assert (failed.position, failed.status) == (PLACE, "failed")
    assert [row.position for row in rows] == list(range(JOBS))
    return failed.error_code, failed.attempts


@pytest.mark.parametrize("verb", ["abort", "assert"])
def test_an_input_that_kills_its_process_or_device_is_closed_and_costs_the_others_nothing(
    deployment: Deployment, tmp_path: Path, verb: str
) -> None:
    texts = with_one(verb)
    batch = deployment.client.submit(FAKE_PIPELINE, texts)
    deployment.start("worker", FAKE_PIPELINE, FAKE_FORWARD_LOG=str(tmp_path / "forward.log"))
    batch.wait(WAIT_TIMEOUT_SECONDS)

    deployment.assert_completed(batch.id, JOBS)
    assert outcome(deployment, batch.id) == ("worker_crashed", 3)
    endings = deployment.query(
        "SELECT outcome FROM job_attempts WHERE batch_id = :id AND position = :place", id=batch.id, place=PLACE
    )
    assert [row.outcome for row in endings] == ["crashed"] * 3
    assert count_forward_passes(tmp_path / "forward.log")[texts[PLACE]] == 3


def test_an_input_that_fails_has_its_code_and_kills_nobody(deployment: Deployment) -> None:
    deployment.start("worker", FAKE_PIPELINE)
    [worker] = deployment.wait_for_workers()
    raising, disconnecting = (
        deployment.client.submit(FAKE_PIPELINE, with_one(verb)) for verb in ("raise", "disconnect")
    )

    for batch in (raising, disconnecting):
        batch.wait(WAIT_TIMEOUT_SECONDS)
        deployment.assert_completed(batch.id, JOBS)

    assert outcome(deployment, raising.id) == ("model_error", 1)
    assert outcome(deployment, disconnecting.id) == ("unavailable", 3), "what may pass with time is tried again"
    assert deployment.ready_worker_pids() == [worker]
