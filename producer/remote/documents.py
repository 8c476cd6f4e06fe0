"""Objects of a server's JSON: batches and results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from models import vectors
from models.documents import to_json
from models.states import BatchStatus, JobOutcome
from models.tasks.feature_extraction import FEATURE_EXTRACTION
from producer.batches.batch_view import TIMESTAMP_FIELDS, BatchView, GuardCounts, JobCounts
from producer.results.result_row import ResultRow

COUNT_FIELDS = ("total", "succeeded", "failed", "cancelled", "expired")
COPIED_FIELDS = (
    "id",
    "name",
    "pipeline",
    "task",
    "model",
    "revision",
    "dtype",
    "device",
    "parameters",
    "metadata",
    "priority",
    "tokens",
    "padded_tokens",
    "device_seconds",
    "jobs_per_second",
    "error_code",
    "error_message",
    "ingesting",
    "reused",
    "working_seconds",
    "source_batch_id",
    "adapter",
    "adapter_revision",
    "tenant",
    "input_file_id",
)
# The columns of a result whose name and value are the row's.
ROW_FIELDS = (
    "batch_id",
    "position",
    "custom_id",
    "error_code",
    "error_message",
    "truncated",
    "model",
    "revision",
    "dtype",
    "device",
    "attempts",
    "seq",
    "reused_from",
    "windows",
    "source_batch_id",
    "source_position",
    "adapter",
    "adapter_revision",
)


@dataclass(frozen=True, slots=True)
class RemoteBatchView(BatchView):
    """A batch as a server described it.

    document: that description, in which numbers are rounded
    """

    document: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the public object, as the server sent it."""
        return dict(self.document)


def batch_view(document: Mapping[str, Any]) -> RemoteBatchView:
    """Return the batch that a document describes."""
    status = BatchStatus(document["status"])
    is_running = document["jobs_per_second"] is not None and not status.has_ended
    return RemoteBatchView(
        **{name: document[name] for name in COPIED_FIELDS},
        status=status,
        counts=JobCounts(*(document["request_counts"][name] for name in COUNT_FIELDS)),
        timestamps={name: parse_time(document[name]) for name in TIMESTAMP_FIELDS},
        guards=tuple(GuardCounts(**guard) for guard in document["guards"]),
        input_errors=tuple(document["input_errors"]),
        is_running=is_running,
        document=document,
    )


def result_row(document: Mapping[str, Any], task: str) -> ResultRow:
    """Return the row that a document describes.

    task: of its batch; an embedding model's output is a vector
    """
    output, status = document["output"], JobOutcome(document["status"])
    is_vector = task == FEATURE_EXTRACTION.name and _is_vector(output)
    return ResultRow(
        **{name: document[name] for name in ROW_FIELDS},
        passthrough_json=_json_or_none(document["passthrough"]),
        guards_json=_json_or_none(document["guards"]),
        original_input_json=_json_or_none(document["original_input"]),
        input_json=to_json(document["input"]),
        status=status,
        output_json=None if is_vector or status is not JobOutcome.SUCCEEDED else to_json(output),
        vector=vectors.from_numbers(output) if is_vector else None,
        finished_at=_time(document["finished_at"]),
        input_tokens=document.get("input_tokens"),  # which an older server does not send
        output_tokens=document.get("output_tokens"),
        finish_reason=document.get("finish_reason"),
    )


def parse_time(value: str | None) -> datetime | None:
    """Return the time of a document."""
    return None if value is None else _time(value)


def _time(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC)


def _is_vector(output: object) -> bool:
    return isinstance(output, list) and bool(output) and isinstance(output[0], int | float)


def _json_or_none(value: object) -> str | None:
    return None if value is None else to_json(value)
