"""The end of a batch is sent to its webhook, as one of OpenAI's events, on both databases."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr
from sqlalchemy import text

import batchmill
from models.db import Database
from models.errors import UsageError
from models.lifecycle import retention, termination
from models.settings import Settings
from models.states import BatchStatus, JobOutcome, Termination
from producer.batches.actions import delete, retry
from producer.batches.actions.retry import RetrySelection
from producer.client import Client
from producer.health import findings
from producer.webhooks import batch_deliveries, delivery
from producer.webhooks.batch_outbox import BATCH_EVENTS
from producer.webhooks.http_post import DeliveryFailed, DeliveryTimedOut
from tests.factories.batch_rows import execute, get_batch, insert_batch
from tests.servers import WAIT_TIMEOUT_SECONDS
from tests.webhook_server import WebhookServer, run_webhook_server
from worker.maintenance.webhook_launcher import WebhookLauncher

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def here() -> Iterator[WebhookServer]:
    with run_webhook_server() as here:
        yield here


def settings() -> Settings:
    return Settings(webhook_secret=SecretStr(SECRET), webhook_allowed_hosts=("127.0.0.1",))


def send(database: Database, **options: Any) -> int:
    return delivery.send_due(database, settings(), (BATCH_EVENTS,), **options).delivered


def answer_all(database: Database, batch_id: str, *, failed: int = 0) -> BatchStatus | None:
    """Count every job as answered, and end the batch as the last commit of a worker does."""
    with database.write() as connection:
        connection.execute(
            text("UPDATE batches SET succeeded = total - :failed, failed = :failed WHERE id = :id"),
            {"id": batch_id, "failed": failed},
        )
        progress = connection.execute(
            text(f"SELECT {termination.PROGRESS_COLUMNS} FROM batches WHERE id = :id"), {"id": batch_id}
        ).one()
        return termination.end_if_done(connection, database.sql, batch_id, progress)


def terminate(database: Database, batch_id: str, reason: Termination, code: str | None = None) -> None:
    termination.terminate(database, batch_id, reason, code, code and f"{code} on line 3 of hidden.jsonl")
    termination.finish_termination(database, batch_id)


def sent(here: WebhookServer) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in here.requests]


def test_a_completed_batch_is_sent_with_its_counts_and_nothing_of_its_inputs(
    database: Database, here: WebhookServer
) -> None:
    batch_id = insert_batch(database, 3, webhook_url=here.url, name="hidden name", metadata_={"a": "hidden"})

    assert answer_all(database, batch_id, failed=1) is BatchStatus.COMPLETED
    assert send(database) == 1

    [event] = sent(here)
    assert (event["type"], event["object"]) == ("batch.completed", "event")
    assert event["data"] == {
        "id": batch_id,
        "status": "completed",
        "pipeline": "reviews",
        "error_code": None,
        "request_counts": {"total": 3, "succeeded": 2, "failed": 1, "cancelled": 0, "expired": 0},
        "reused": 0,
    }
    assert "hidden" not in json.dumps(event)
    assert send(database) == 0, "once"


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        (Termination.CANCELLED, None, "batch.cancelled"),
        (Termination.EXPIRED, None, "batch.expired"),
        (Termination.FAILED, "model_unusable", "batch.failed"),
        (Termination.FAILURE_LIMIT, termination.TOO_MANY_FAILURES, "batch.failed"),
    ],
)
def test_each_other_end_has_its_type_and_code(
    database: Database, here: WebhookServer, reason: Termination, code: str | None, kind: str
) -> None:
    batch_id = insert_batch(database, 3, webhook_url=here.url)

    terminate(database, batch_id, reason, code)
    send(database)

    [event] = sent(here)
    assert (event["type"], event["data"]["error_code"]) == (kind, code)
    assert sum(event["data"]["request_counts"][name] for name in ("succeeded", "failed", "cancelled", "expired")) == 3
    assert "hidden.jsonl" not in json.dumps(event), "messages may quote inputs"


def test_a_batch_that_is_too_faulty_fails_with_its_code(database: Database, here: WebhookServer) -> None:
    batch_id = insert_batch(database, 3, webhook_url=here.url, max_failures=1)

    assert answer_all(database, batch_id, failed=2) is BatchStatus.FAILED
    send(database)

    [event] = sent(here)
    assert (event["type"], event["data"]["error_code"]) == ("batch.failed", "too_many_failures")


def test_a_batch_without_a_webhook_records_nothing(database: Database) -> None:
    batch_id = insert_batch(database, 3)

    answer_all(database, batch_id)

    assert batch_deliveries.list_deliveries(database, batch_id) == []


def test_openai_s_client_accepts_the_event(database: Database, here: WebhookServer) -> None:
    openai = pytest.importorskip("openai")
    batch_id = insert_batch(database, 1, webhook_url=here.url)
    answer_all(database, batch_id)
    send(database)
    [(headers, body)] = here.requests

    client = openai.OpenAI(api_key="unused")
    event = client.webhooks.unwrap(body.decode(), dict(headers), secret=SECRET)

    assert (event.type, event.data.id) == ("batch.completed", batch_id)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body.decode() + " ", dict(headers), secret=SECRET)
    client.close()


def test_a_retried_batch_is_sent_again_when_it_ends_again(database: Database, here: WebhookServer) -> None:
    batch_id = insert_batch(database, 2, webhook_url=here.url)
    terminate(database, batch_id, Termination.CANCELLED)
    retry.retry_jobs(database, batch_id, RetrySelection((JobOutcome.CANCELLED,)), 4)
    assert get_batch(database, batch_id).status == BatchStatus.IN_PROGRESS
    answer_all(database, batch_id)

    assert send(database) == 2

    assert [event["type"] for event in sent(here)] == ["batch.cancelled", "batch.completed"]
    assert len({headers["webhook-id"] for headers, _ in here.requests}) == 2


def test_the_event_of_a_deleted_batch_is_sent(database: Database, here: WebhookServer) -> None:
    batch_id = insert_batch(database, 2, webhook_url=here.url)
    answer_all(database, batch_id)
    delete.delete(database, batch_id)

    assert send(database) == 1


def test_a_tenant_with_many_silent_receivers_delays_no_other_tenant(database: Database) -> None:
    for number in range(delivery.MAX_SENDING_OF_TENANT + 2):
        url = f"https://silent-{number}.example/"
        answer_all(database, insert_batch(database, 1, tenant="many", webhook_url=url))
    answer_all(database, insert_batch(database, 1, tenant="other", webhook_url="https://quick.example/"))
    others_were_sent, started = Event(), []

    def send_first_to_others(url: str, *_: object, **__: object) -> None:
        started.append(url)
        if "quick" in url:
            assert len(started) <= delivery.MAX_SENDING_OF_TENANT + 1
            others_were_sent.set()
        elif not others_were_sent.wait(WAIT_TIMEOUT_SECONDS):
            raise DeliveryTimedOut("it did not answer in time")

    assert send(database, send=send_first_to_others) == len(started) == delivery.MAX_SENDING_OF_TENANT + 3


def test_the_command_sends_what_is_due(database: Database, database_url: str) -> None:
    answer_all(database, insert_batch(database, 1, webhook_url="https://hooks.example/"))
    command = ["--database-url", database_url, "webhooks"]

    result = CliRunner().invoke(batchmill.cli, command, env={"BATCHMILL_WEBHOOK_SECRET": None})

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (0, "delivered 0 events")
    assert "webhook_secret is not set here" in result.stderr


def test_workers_start_a_sender_for_it(database: Database, here: WebhookServer) -> None:
    launcher = WebhookLauncher(database, settings())

    def has_work() -> bool:
        with database.read() as connection:
            return bool(connection.scalar(text(f"SELECT {launcher.has_work_due}")))

    batch_id = insert_batch(database, 2, webhook_url=here.url)
    assert not has_work()
    answer_all(database, batch_id)
    assert has_work()
    send(database)
    assert not has_work()


def test_the_state_of_its_delivery_is_shown_by_host_alone(
    database: Database, database_url: str, here: WebhookServer
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DeliveryFailed("it answered 404")

    batch_id = insert_batch(database, 2, webhook_url=here.url)
    answer_all(database, batch_id)
    send(database, send=refuse)

    shown = CliRunner().invoke(batchmill.cli, ["--database-url", database_url, "show", batch_id]).stdout
    assert "batch.completed not delivered yet, after 1 attempt" in shown
    assert "127.0.0.1" in shown
    assert "hook" not in shown.replace("webhook", "")
    [finding] = findings.check_webhooks(batch_deliveries.count_undelivered(database, 60.0))
    assert finding.message == "1 events of batches did not reach their webhook yet"

    execute(database, f"UPDATE batch_events SET next_delivery_at = {database.sql.now}, delivery_attempts = 9")
    send(database, send=refuse)
    [gone] = batch_deliveries.list_deliveries(database, batch_id)
    assert gone.state == "abandoned"
    [finding] = findings.check_webhooks(batch_deliveries.count_undelivered(database, 60.0))
    assert "never reached" in finding.message


def test_events_are_deleted_with_other_old_things_once_they_were_sent(database: Database, here: WebhookServer) -> None:
    for _ in range(2):
        answer_all(database, insert_batch(database, 1, webhook_url=here.url))
    execute(database, "UPDATE batch_events SET next_delivery_at = NULL WHERE id = (SELECT min(id) FROM batch_events)")

    retention.delete_old_runs(database, -5.0)

    assert send(database) == 1, "one that is still to be sent stays"


PUBLIC_URL = "https://hooks.example.com/path?token=hidden"


def test_the_command_line_stores_it_and_warns_of_what_this_machine_lacks(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    arguments = [str(tmp_path / "a.jsonl"), "--pipeline", "sample-sentiment-analysis"]

    def submit(*options: str) -> Result:
        return CliRunner().invoke(batchmill.cli, ["--database-url", database_url, "submit", *arguments, *options])

    submitted = submit("--webhook", PUBLIC_URL, "--idempotency-key", "monday")
    other = submit("--webhook", f"{PUBLIC_URL}2", "--idempotency-key", "monday")
    refused = submit("--webhook", "http://hooks.example.com/hidden")

    assert get_batch(database, submitted.stdout.strip()).webhook_url == PUBLIC_URL
    assert "webhook_secret is not set here" in submitted.stderr
    assert (other.exit_code, "webhook or way" in other.stderr) == (2, True), "another address is another request"
    assert (refused.exit_code, "is not https" in refused.stderr) == (2, True)
    assert "hidden" not in submitted.output + other.output + refused.output


def test_python_stores_it(database: Database, database_url: str, tmp_path: Path) -> None:
    with Client(database_url=database_url, redis_url="redis://127.0.0.1:1/0", home=tmp_path) as client:
        handle = client.submit("sample-sentiment-analysis", ["a"], webhook_url=PUBLIC_URL)
        with pytest.raises(UsageError, match="user or password"):
            client.submit("sample-sentiment-analysis", ["a"], webhook_url="https://me:hidden@example.com/")

    assert get_batch(database, handle.id).webhook_url == PUBLIC_URL
