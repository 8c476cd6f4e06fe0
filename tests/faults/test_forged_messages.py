"""What anybody who can write to Redis may put there: it is dropped, in bounded memory, and the next wakeup is heard.

The worker looks at SQL by itself every ten minutes only: a batch that ends before shows that its wakeup was heard.
"""

import base64
import json
import pickle
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from models.lifecycle import wakeups
from models.settings import Settings
from tests.deployment import Deployment, wait_for
from tests.faults.fake_model import FAKE_PIPELINE, fake_model_deployment, numbered_texts
from tests.servers import WAIT_TIMEOUT_SECONDS, Valkey, redis_client

PAGE = Path(__file__).parents[2] / "docs/how-to/redis.md"
WAKEUPS_ONLY = {"poll_interval_seconds": "600", "wakeup_resend_seconds": "600"}
QUEUE = wakeups.queue_name(FAKE_PIPELINE)
FLOOD = 3000
MIB = 1024 * 1024
BOMB_BYTES = 300 * MIB
HUGE_BYTES = 200 * MIB
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
OTHER = '{"other": {"task": "sentiment-analysis", "model": "nobody/fake"}}'


@pytest.fixture(autouse=True)
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no submit give up on its wakeup, because nothing else starts its batch here."""
    monkeypatch.setenv("BATCHMILL_REDIS_TIMEOUT_SECONDS", "60")


def forgeries(real: dict[str, Any]) -> Iterable[bytes]:
    """Yield messages that differ from a real wakeup in their contents, and some that are no messages."""

    def forged(
        arguments: object = (FAKE_PIPELINE, 1), *, body: bytes | None = None, **headers: object
    ) -> dict[str, Any]:
        plain = json.dumps([arguments, {}, EMBED]).encode() if body is None else body
        changed = {"body": base64.b64encode(plain).decode(), "headers": {**real["headers"], **headers}}
        return {**real, **changed}

    bomb = zlib.compressobj(9)
    blanks = b" " * MIB
    parts = [bomb.compress(b"["), *(bomb.compress(blanks) for _ in range(BOMB_BYTES // MIB)), bomb.compress(b"]")]
    chained = json.dumps([[FAKE_PIPELINE, 1], {}, {**EMBED, "chain": [{"task": "celery.backend_cleanup"}]}]).encode()
    properties = real["properties"]
    messages = [
        forged(body=b"".join([*parts, bomb.flush()]), compression="application/x-gzip"),
        forged(compression="no such one"),
        forged(["no such pipeline", 1]),
        forged([FAKE_PIPELINE, "1; DROP TABLE jobs"]),
        forged([{"a": 1}, [2]]),
        forged(task="os.system"),
        *(forged(task=f"celery.{name}") for name in ("backend_cleanup", "chord", "accumulate", "map")),
        forged(eta="2036-01-01T00:00:00+00:00"),
        forged(expires="nonsense"),
        forged(timelimit=[0.01, 0.01]),
        forged(retries="many"),
        forged(body=chained),
        forged(body=b"[" * 100_000),
        forged(body=pickle.dumps([1])) | {"content-type": "application/x-python-serialize"},
        forged() | {"content-type": "application/x-yaml"},
        forged() | {"content-encoding": "no such one"},
        forged() | {"content-encoding": "base64"},
        forged() | {"properties": None},
        forged() | {"properties": {**properties, "body_encoding": "no such one"}},
        forged() | {"properties": {**properties, "delivery_info": None, "delivery_tag": [1]}},
        {"body": "x"},
        {},
    ]
    whole = [json.dumps(message).encode() for message in messages]
    return [*whole, b"", b"garbage", b"[]", b"7" * 10_000, pickle.dumps({"a": 1}), b"x" * HUGE_BYTES]


def real_message(settings: Settings, client: Any) -> dict[str, Any]:
    wakeups.send_wakeups(settings, "forge", 1)
    message: dict[str, Any] = json.loads(client.rpop(wakeups.queue_name("forge")))
    return message


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def dropped(deployment: Deployment) -> list[str]:
    return [line for line in deployment.log.splitlines() if "wakeups.rejected" in line]


def test_each_kind_is_dropped_and_the_wakeup_behind_it_is_heard(
    tmp_path: Path, sqlite_url: str, own_valkey: Valkey
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = Settings.load(redis_url=own_valkey.url)
    with (
        fake_model_deployment(
            tmp_path, database_url=sqlite_url, redis_url=own_valkey.url, **WAKEUPS_ONLY
        ) as deployment,
        redis_client(own_valkey.url) as client,
    ):
        started = deployment.start_worker(FAKE_PIPELINE, TMPDIR=str(temporary))
        [worker] = deployment.wait_for_workers()
        deployment.client.submit(FAKE_PIPELINE, ["now it listens"]).wait(WAIT_TIMEOUT_SECONDS)
        before = peak_bytes(worker)

        for forged in forgeries(real_message(settings, client)):
            client.lpush(QUEUE, forged)
            deployment.client.submit(FAKE_PIPELINE, ["heard"]).wait(WAIT_TIMEOUT_SECONDS)
        client.lpush(QUEUE, *[b"garbage"] * FLOOD)
        deployment.client.submit(FAKE_PIPELINE, ["heard"]).wait(WAIT_TIMEOUT_SECONDS)

        assert deployment.ready_worker_pids() == [worker]
        assert peak_bytes(worker) - before < 48 * MIB
        assert client.keys() == []
        assert 0 < len(dropped(deployment)) < FLOOD / 10
        started.terminate()
        assert started.wait(WAIT_TIMEOUT_SECONDS) == 0
        assert list(temporary.iterdir()) == []
        assert "Traceback" not in deployment.log


def test_a_key_that_is_no_list_makes_nobody_deaf(tmp_path: Path, sqlite_url: str, redis_url: str) -> None:
    settings = {**WAKEUPS_ONLY, "pipelines": OTHER}
    with (
        fake_model_deployment(tmp_path, database_url=sqlite_url, redis_url=redis_url, **settings) as deployment,
        redis_client(redis_url) as client,
    ):
        client.set(wakeups.queue_name("other"), "taken")
        deployment.start_worker(FAKE_PIPELINE, "other")
        [worker] = deployment.wait_for_workers()
        wait_for(lambda: dropped(deployment), "the warning")

        deployment.client.submit(FAKE_PIPELINE, ["its own queue is there"]).wait(WAIT_TIMEOUT_SECONDS)
        client.set(QUEUE, "taken")
        batch = deployment.client.submit(FAKE_PIPELINE, ["not heard"])
        client.delete(QUEUE)
        deployment.client.submit(FAKE_PIPELINE, ["heard again"]).wait(WAIT_TIMEOUT_SECONDS)

        assert batch.warning is not None
        batch.wait(WAIT_TIMEOUT_SECONDS)
        assert deployment.ready_worker_pids() == [worker]
        assert "Traceback" not in deployment.log


def test_the_rights_that_the_docs_name_are_enough(tmp_path: Path, sqlite_url: str, own_valkey: Valkey) -> None:
    [command] = re.findall(r"^ACL SETUSER .*", PAGE.read_text(), re.MULTILINE)
    with redis_client(own_valkey.url) as client:
        client.execute_command(*command.replace("PASSWORD", "secret").split())
        client.execute_command("ACL", "SETUSER", "default", "off")
    url = own_valkey.url.replace("//", "//batchmill:secret@")
    with fake_model_deployment(tmp_path, database_url=sqlite_url, redis_url=url, **WAKEUPS_ONLY) as deployment:
        deployment.start_worker(FAKE_PIPELINE)
        deployment.wait_for_workers()
        deployment.client.submit(FAKE_PIPELINE, ["now it listens"]).wait(WAIT_TIMEOUT_SECONDS)

        batch = deployment.client.submit(FAKE_PIPELINE, numbered_texts(20)).wait(WAIT_TIMEOUT_SECONDS)

        assert batch.warning is None
        assert wakeups.queue_depths(Settings.load(redis_url=url), [FAKE_PIPELINE]) == {FAKE_PIPELINE: 0}
        assert wakeups.server_info(Settings.load(redis_url=url)).version
        assert "secret" not in deployment.log
        assert "Traceback" not in deployment.log
