import json
from datetime import UTC, datetime
from typing import Any

import pytest

from models.documents import format_timestamp
from models.states import BatchStatus
from producer.batches.batch_view import TIMESTAMP_FIELDS, BatchView, JobCounts
from producer.cli.batches.wait import exit_code

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)

OPENAI = {
    "id",
    "object",
    "status",
    "created_at",
    "in_progress_at",
    "expires_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "request_counts",
    "metadata",
}


def view(**fields: Any) -> BatchView:
    defaults: dict[str, Any] = {
        "id": "batch_1",
        "status": BatchStatus.COMPLETED,
        "name": None,
        "pipeline": "p",
        "task": "t",
        "model": "m",
        "revision": "abc",
        "dtype": "float32",
        "device": "cpu",
        "parameters": {},
        "metadata": {"team": "toys"},
        "priority": 0,
        "counts": JobCounts(10, 7, 1, 1, 1),
        "tokens": 75,
        "padded_tokens": 100,
        "device_seconds": 0.0,
        "jobs_per_second": 12.345,
        "error_code": None,
        "error_message": None,
        "timestamps": dict.fromkeys(TIMESTAMP_FIELDS) | {"created_at": NOON},
    }
    return BatchView(**defaults | fields)


def test_the_object_has_openais_fields_and_ours() -> None:
    document = view().as_dict()

    assert document.keys() >= OPENAI
    assert document["object"] == "batch"
    assert document["status"] == "completed"
    assert document["created_at"] == format_timestamp(NOON)
    assert document["completed_at"] is None
    assert document["error_code"] is None
    assert document["padding_share"] == 0.25
    assert document["jobs_per_second"] == 12.35
    assert json.loads(json.dumps(document)) == document


def test_the_counts_add_up() -> None:
    counts = JobCounts(10, 3, 2, 1, 1)

    assert counts.as_dict() == {"total": 10, "succeeded": 3, "failed": 2, "cancelled": 1, "expired": 1, "unanswered": 3}


def test_a_failed_batch_has_an_error() -> None:
    document = view(status=BatchStatus.FAILED, error_code="model_unusable", error_message="no weights").as_dict()

    assert (document["error_code"], document["error_message"]) == ("model_unusable", "no weights")


def test_without_results_padding_and_rate_are_none() -> None:
    document = view(tokens=0, padded_tokens=0, jobs_per_second=None).as_dict()

    assert document["padding_share"] is None
    assert document["jobs_per_second"] is None


@pytest.mark.parametrize(
    ("status", "failed", "code"),
    [
        (BatchStatus.COMPLETED, 0, 0),
        (BatchStatus.COMPLETED, 1, 3),
        (BatchStatus.FAILED, 1, 1),
        (BatchStatus.EXPIRED, 0, 1),
        (BatchStatus.CANCELLED, 0, 1),
    ],
)
def test_exit_codes(status: BatchStatus, failed: int, code: int) -> None:
    assert exit_code(view(status=status, counts=JobCounts(10, 10 - failed, failed, 0, 0))) == code


def test_devices_busy_is_an_average_number_of_devices() -> None:
    assert view().devices_busy is None
    assert view(device_seconds=0.6, working_seconds=0.8).devices_busy == pytest.approx(0.75)
    assert view(device_seconds=2.4, working_seconds=0.8).devices_busy == pytest.approx(3.0)
