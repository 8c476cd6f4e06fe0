"""Wakeups that come a hundred times, or that are forged: SQL decides what runs, so they cost only a look."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from models.lifecycle import wakeups
from models.settings import Settings
from tests.faults.fake_model import (
    FAKE_PIPELINE,
    assert_outputs,
    count_forward_passes,
    fake_model_deployment,
    numbered_texts,
)
from tests.servers import WAIT_TIMEOUT_SECONDS, redis_client

JOBS = 200
# A process that receives no wakeup looks at SQL again only after ten minutes.
WAKEUPS_ONLY = {"poll_interval_seconds": "600", "wakeup_resend_seconds": "600"}


@pytest.fixture(autouse=True)
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no submit give up on its wakeup, because nothing else starts its batch here."""
    monkeypatch.setenv("BATCHMILL_REDIS_TIMEOUT_SECONDS", "60")


def test_one_claim_wins_however_often_a_wakeup_comes(tmp_path: Path, database_url: str, redis_url: str) -> None:
    texts, settings = numbered_texts(JOBS), Settings.load(redis_url=redis_url)
    with fake_model_deployment(tmp_path, database_url=database_url, redis_url=redis_url) as deployment:
        deployment.start(
            "worker",
            FAKE_PIPELINE,
            "--devices",
            "cpu,cpu",
            FAKE_FORWARD_LOG=str(tmp_path / "forward.log"),
            FAKE_FORWARD_SECONDS="0.02",
        )
        deployment.wait_for_workers(2)
        batch = deployment.client.submit(FAKE_PIPELINE, texts)

        wakeups.send_wakeups(settings, FAKE_PIPELINE, 100)
        batch.wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert_outputs(deployment, batch.id, texts)
        assert set(count_forward_passes(tmp_path / "forward.log").values()) == {1}
        assert {row.outcome for row in deployment.query("SELECT outcome FROM attempts")} == {"done"}


def test_a_forged_wakeup_is_passed_over(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    settings = Settings.load(redis_url=redis_url)
    with fake_model_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url, **WAKEUPS_ONLY) as deployment:
        deployment.start_worker(FAKE_PIPELINE)
        [worker] = deployment.wait_for_workers()
        deployment.client.submit(FAKE_PIPELINE, ["now it listens"]).wait(WAIT_TIMEOUT_SECONDS)
        with redis_client(redis_url) as client:
            client.lpush(wakeups.queue_name(FAKE_PIPELINE), *forgeries(settings, client))

        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(JOBS)).wait(WAIT_TIMEOUT_SECONDS)

        deployment.assert_completed(batch.id, JOBS)
        assert deployment.ready_worker_pids() == [worker]
        assert "DuplicateTaskNameWarning" not in deployment.log


def forgeries(settings: Settings, client: Any) -> list[bytes]:
    """Messages like a wakeup, except for their contents, and some that are none. Celery fails on the last one."""
    wakeups.send_wakeups(settings, "forge", 1)
    real = json.loads(client.rpop(wakeups.queue_name("forge")))

    def forged(arguments: object, **headers: str) -> bytes:
        body = json.dumps([arguments, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
        changed = {"body": base64.b64encode(body.encode()).decode(), "headers": {**real["headers"], **headers}}
        return json.dumps({**real, **changed}).encode()

    return [
        forged(["no such pipeline", 1]),
        forged([FAKE_PIPELINE, 10**18]),
        forged([FAKE_PIPELINE, "1; DROP TABLE jobs"]),
        forged([FAKE_PIPELINE]),
        forged([FAKE_PIPELINE, 1], task="os.system"),
        json.dumps({**real, "content-type": "application/x-python-serialize"}).encode(),
        pickle.dumps({"a": 1}),
    ]
