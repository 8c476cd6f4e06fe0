"""What a worker process measures while it works, as Prometheus reads it from its port."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.db import Database
from models.errors import UsageError
from models.settings import Settings
from tests.factories.batch_rows import (
    MODEL_VERSION,
    PIPELINE,
    claimant_for,
    execute,
    expire_leases,
    get_batch,
    insert_batch,
)
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.fakes import FakeAdapter
from tests.servers import wait_until
from worker.engine.engine import Engine
from worker.leasing.claiming import claims
from worker.loading.runtime import Runtime
from worker.maintenance import batch_endings, tasks
from worker.metrics import listener
from worker.metrics.listener import MAX_CONNECTIONS, MetricsServer
from worker.metrics.recorder import NO_METRICS, MetricsRecorder
from worker.supervisor.crash_recovery import CrashRecovery
from worker.supervisor.supervisor import ChildExit

EXITS = "batchmill_worker_exits_total"


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


@pytest.fixture
def metrics(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsRecorder]:
    servers: list[MetricsServer] = []

    def start_and_keep(*arguments: Any) -> None:
        servers.append(start(*arguments))

    start = listener.start_server
    monkeypatch.setattr(listener, "start_server", start_and_keep)
    yield listener.listen(Settings.load(metrics_port=port))
    for server in servers:
        server.shutdown()
        server.server_close()


def scrape(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {(item.name, frozenset(item.labels.items())): item.value for family in families for item in family.samples}


def run(database: Database, adapter: FakeAdapter, metrics: MetricsRecorder, batch_id: str) -> None:
    context = replace(make_context(database, poll_interval_seconds=0.01, retry_base_seconds=1e-9), metrics=metrics)
    runtime = Runtime(adapter, MODEL_VERSION, 1000, None, None, 1, 0)
    engine = Engine(context, make_loaded_pipeline(database, runtime, claimant_for()))
    engine.start()
    wait_until(lambda: get_batch(database, batch_id).status == "completed", "the batch to end")
    engine.stop()
    engine.join()


def test_a_worker_shows_what_it_did(database: Database, metrics: MetricsRecorder, port: int) -> None:
    texts = ["a b", "too long", "poison", "NaN", "a b c", *["word"] * 5]
    later = datetime.now(UTC) + timedelta(hours=2)
    batch_id = insert_batch(database, [{"text": text} for text in texts], expires_at=later)
    execute(database, f"UPDATE batches SET in_progress_at = {database.sql.seconds_from_now(-200)}")
    adapter = FakeAdapter()
    adapter.before_forward = lambda _batch: time.sleep(0.002)

    run(database, adapter, metrics, batch_id)

    samples = scrape(port)

    def sample(name: str, **labels: str) -> float:
        return samples[(f"batchmill_{name}", frozenset({"pipeline": PIPELINE, **labels}.items()))]

    assert sample("jobs_total", outcome="succeeded", code="") == 7
    assert sample("jobs_total", outcome="failed", code="input_too_long") == 1
    assert sample("jobs_total", outcome="failed", code="invalid_output") == 1
    assert sample("jobs_total", outcome="failed", code="model_error") == 1
    batch = get_batch(database, batch_id)
    assert sample("tokens_total") == batch.tokens > 0
    assert sample("padding_tokens_total") == batch.padded_tokens - batch.tokens
    assert sample("micro_batch_seconds_count") >= 1
    assert sample("device_busy_seconds_total", kind="model") == pytest.approx(sample("micro_batch_seconds_sum"))
    assert sample("device_busy_seconds_total", kind="model") >= 0.002
    assert sample("claim_seconds_count") >= 1
    assert sample("queue_wait_seconds_count") == 3
    assert 600 <= sample("queue_wait_seconds_sum") < 3 * 300
    assert sample("commit_seconds_count") >= 1
    assert sample("batches_ended_total", status="completed") == 1
    assert sample("deadline_margin_seconds_bucket", le="3600.0") == 0
    assert sample("deadline_margin_seconds_bucket", le="14400.0") == 1


def test_retries_and_reclaimed_slices_are_counted(database: Database, metrics: MetricsRecorder, port: int) -> None:
    insert_batch(database, 8)
    expire_leases(database, *claims.claim(database, claimant_for("gone"), 8, 4))

    tasks.reclaim_expired_leases(database, 3, metrics)
    metrics.record_retries(PIPELINE, 3)
    metrics.record_verdicts(PIPELINE, {("pii", "input", "redact"): 2})
    metrics.record_results(PIPELINE, 0, {"made_up_by_a_task": 1}, 0, 0)
    metrics.record_exit("crashed")
    metrics.record_wakeup(0.003)
    for revision in ("sha256:" + "a" * 64, "b" * 40):
        metrics.record_load(PIPELINE, "made/model", revision, "float32", "cpu")

    samples = {name: value for (name, _), value in scrape(port).items() if value}
    labels = [dict(label) for name, label in scrape(port) if name == "batchmill_model_info"]
    codes = {dict(label).get("code") for name, label in scrape(port) if name == "batchmill_jobs_total"}
    assert samples["batchmill_slices_reclaimed_total"] == 2
    assert samples["batchmill_jobs_retried_total"] == 3
    assert samples["batchmill_guard_verdicts_total"] == 2
    assert samples["batchmill_worker_exits_total"] == samples["batchmill_wakeup_wait_seconds_count"] == 1
    assert codes == {"", "other"}
    assert [label["revision"] for label in labels] == ["b" * 12], "only the pipeline that is loaded"
    metrics.record_unload()
    assert not [name for name, _ in scrape(port) if name == "batchmill_model_info"]


def test_a_batch_that_misses_its_deadline_has_a_negative_margin(
    database: Database, metrics: MetricsRecorder, port: int
) -> None:
    insert_batch(database, 4, expires_at=datetime.now(UTC) - timedelta(seconds=30))

    batch_endings.expire_batches(database, metrics)

    samples = {(name, *dict(labels).values()): value for (name, labels), value in scrape(port).items()}
    ended, margin = "batchmill_batches_ended_total", "batchmill_deadline_margin_seconds_bucket"
    assert {value for key, value in samples.items() if key[0] == ended and "expired" in key} == {1}
    assert {le: samples[key] for key in samples if key[0] == margin for le in ("-60.0", "-1.0") if le in key} == {
        "-60.0": 0,
        "-1.0": 1,
    }


def test_a_supervisor_counts_crashes_and_what_it_took_back(
    database: Database, metrics: MetricsRecorder, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.supervisor.crash_recovery.wakeups.send_wakeups", lambda *_: None)
    insert_batch(database, 12)
    claims.claim(database, claimant_for("crashed"), 8, 4)
    before = {tuple(labels): value for (name, labels), value in scrape(port).items() if name == EXITS}

    CrashRecovery(database, Settings.load(), metrics)(ChildExit("crashed", -signal.SIGSEGV, oom_suspected=False))

    samples = {(name, *dict(labels).values()): value for (name, labels), value in scrape(port).items()}
    assert before == {(("outcome", outcome),): 0 for outcome in ("crashed", "hung", "killed")}
    assert samples[EXITS, "crashed"] == 1
    assert samples["batchmill_slices_reclaimed_total", "requeued"] == 2


def test_half_requests_neither_pile_up_nor_stay(
    metrics: MetricsRecorder, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener._RequestHandler, "timeout", 0.5)
    threads_before = threading.active_count()
    with ExitStack() as connections:
        for _ in range(5 * MAX_CONNECTIONS):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port)))
            with suppress(OSError):  # closed already
                connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert metrics.is_enabled
        assert threading.active_count() <= threads_before + MAX_CONNECTIONS

        wait_until(lambda: threading.active_count() <= threads_before, "the slow clients to be closed")

        assert scrape(port)


def test_a_port_in_use_costs_only_the_metrics(port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        assert listener.listen(Settings.load(metrics_port=port)) is NO_METRICS


def test_without_a_port_nothing_is_recorded(database: Database) -> None:
    assert listener.listen(Settings.load()) is NO_METRICS
    batch_id = insert_batch(database, 8)

    run(database, FakeAdapter(), NO_METRICS, batch_id)

    assert get_batch(database, batch_id).succeeded == 8


def test_a_port_needs_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "find_spec", lambda _name: None)
    listener.check_requirements(Settings.load())

    with pytest.raises(UsageError, match="prometheus_client"):
        listener.check_requirements(Settings.load(metrics_port=9_100))
