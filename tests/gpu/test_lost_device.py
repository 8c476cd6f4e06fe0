"""Devices that are lost or hang: the process ends, its successor goes on, and each neighbour is answered once."""

from pathlib import Path

import pytest

from tests.deployment import Deployment
from tests.faults.fake_model import FAKE_PIPELINE, fake_model_deployment, numbered_texts

JOBS, PLACE = 64, 37

# By the first word of a text: the error code that its job ends with, and how its attempts ended.
FAULTS = {"device-assert": ("worker_crashed", "crashed"), "device-sleep": ("forward_timeout", "hung")}


@pytest.mark.gpu
@pytest.mark.parametrize("fault", FAULTS)
def test_an_input_that_takes_the_device_along_is_closed_and_costs_the_others_nothing(
    gpu: str, fault: str, tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    texts = numbered_texts(JOBS)
    texts[PLACE] = f"{fault} {texts[PLACE]}"
    with fake_model_deployment(
        tmp_path, database_url=sqlite_url, redis_url=redis_url, forward_timeout_seconds="2"
    ) as deployment:
        batch = deployment.client.submit(FAKE_PIPELINE, texts)
        deployment.start("worker", FAKE_PIPELINE, "--devices", gpu, FAKE_DEVICE=gpu)
        batch.wait(150)

        deployment.assert_completed(batch.id, JOBS)
        assert failures(deployment) == [(PLACE, FAULTS[fault][0], 3)]
        assert endings(deployment) == [FAULTS[fault][1]] * 3


def failures(deployment: Deployment) -> list[tuple[object, ...]]:
    found = deployment.query("SELECT position, error_code, attempts FROM results WHERE status <> 'succeeded'")
    return [tuple(row) for row in found]


def endings(deployment: Deployment) -> list[str]:
    return [
        row.outcome for row in deployment.query("SELECT outcome FROM job_attempts WHERE position = :place", place=PLACE)
    ]
