"""A batch as it was at one moment: the public object, modelled on OpenAI's Batch. Nothing here reads SQL."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from models.documents import format_timestamp
from models.errors import NotFound
from models.pipelines import redaction
from models.privacy import urls
from models.states import BatchStatus
from producer.advice import LIST_BATCHES
from producer.tenants.principal import DEFAULT_TENANT

TIMESTAMP_FIELDS = (
    "created_at",
    "in_progress_at",
    "expires_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


@dataclass(frozen=True, slots=True)
class GuardCounts:
    """The verdicts of one guard over the results of a batch so far.

    device_seconds: the time that its model took; 0 for rules.
    """

    guard: str
    on: str  # input | output
    action: str  # fail | flag | redact: what happens to a row that it catches
    passed: int = 0
    flagged: int = 0
    redacted: int = 0
    blocked: int = 0
    device_seconds: float = 0.0

    @property
    def caught(self) -> int:
        """The rows that it did not pass."""
        return self.flagged + self.redacted + self.blocked

    @property
    def counts_by_outcome(self) -> dict[str, int]:
        """The rows by what the guard did."""
        return {"passed": self.passed, "flagged": self.flagged, "redacted": self.redacted, "blocked": self.blocked}

    def as_dict(self) -> dict[str, Any]:
        """Return the object in a batch's `guards`; its keys are stable."""
        return {
            "guard": self.guard,
            "on": self.on,
            "action": self.action,
            **self.counts_by_outcome,
            "device_seconds": round(self.device_seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class JobCounts:
    """A batch's jobs by outcome; at all times total = succeeded + failed + cancelled + expired + unanswered."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    unanswered: int = field(init=False)  # jobs without a result; 0 while the batch is `validating`

    def __post_init__(self) -> None:
        object.__setattr__(self, "unanswered", self.total - self.ended)

    @property
    def ended(self) -> int:
        """The number of jobs with a result."""
        return self.succeeded + self.failed + self.cancelled + self.expired

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch as it was at one moment."""

    id: str
    status: BatchStatus
    name: str | None
    pipeline: str
    task: str
    model: str
    revision: str | None  # None until a worker has resolved it
    dtype: str | None  # None until there is a result
    device: str | None
    parameters: dict[str, Any]
    metadata: dict[str, str]
    priority: int
    counts: JobCounts
    tokens: int
    padded_tokens: int
    device_seconds: float
    jobs_per_second: float | None  # over the working time; None before the first result, and while nobody works
    error_code: str | None
    error_message: str | None
    timestamps: dict[str, datetime | None]
    ingesting: bool = False  # more jobs are being read
    reused: int = 0  # succeeded jobs whose results come from earlier batches
    working_seconds: float = 0.0  # in which at least one worker held jobs of the batch
    is_running: bool = False  # a worker holds jobs of it now
    guards: tuple[GuardCounts, ...] = ()  # those of inputs first
    output_cache_key: str | None = None  # hash of all that determines an output, except the revision
    source_batch_id: str | None = None  # the batch whose results are its inputs; it may be deleted
    adapter: str | None = None  # the LoRA adapter on top of the model; None until there is a result
    adapter_revision: str | None = None
    tenant: str = DEFAULT_TENANT
    endpoint: str | None = None  # which the lines of its file name; None: native rows
    completion_window: str | None = None  # as an OpenAI client asked for it
    input_file_id: str | None = None  # the uploaded file that it is read from
    input_errors: tuple[dict[str, Any], ...] = ()  # lines that can't be jobs, if they rejected it
    webhook_url: str | None = None  # only its host is shown
    response_options: Mapping[str, Any] = field(default_factory=dict)  # how its endpoint writes responses

    @property
    def padding_share(self) -> float | None:
        """The share of padding among the tokens that went through the model, 0 to 1; None before the first."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else None

    @property
    def devices_busy(self) -> float | None:
        """The average number of devices that computed during the working time, such as 0.97 or 3.8."""
        seconds = self.device_seconds + self.guard_device_seconds
        return seconds / self.working_seconds if seconds and self.working_seconds else None

    @property
    def guard_device_seconds(self) -> float:
        """The device time of the guards' models, which `device_seconds` does not include."""
        return sum(guard.device_seconds for guard in self.guards)

    def as_dict(self) -> dict[str, Any]:
        """Return the public object: OpenAI's fields, with times in ISO 8601, then ours."""
        return {
            "id": self.id,
            "object": "batch",
            "status": self.status.value,
            "error_code": self.error_code,
            "error_message": self.error_message,
            **{name: timestamp and format_timestamp(timestamp) for name, timestamp in self.timestamps.items()},
            "request_counts": self.counts.as_dict(),
            "reused": self.reused,
            "ingesting": self.ingesting,
            "metadata": self.metadata,
            "name": self.name,
            "pipeline": self.pipeline,
            "task": self.task,
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "device": self.device,
            "adapter": self.adapter,
            "adapter_revision": self.adapter_revision,
            "parameters": redaction.redact_parameters(self.parameters),
            "priority": self.priority,
            "tokens": self.tokens,
            "padded_tokens": self.padded_tokens,
            "padding_share": _round_or_none(self.padding_share, 4),
            "device_seconds": round(self.device_seconds, 3),
            "working_seconds": round(self.working_seconds, 3),
            "devices_busy": _round_or_none(self.devices_busy, 3),
            "jobs_per_second": _round_or_none(self.jobs_per_second, 2),
            "guards": [guard.as_dict() for guard in self.guards],
            "source_batch_id": self.source_batch_id,
            "tenant": self.tenant,
            "input_file_id": self.input_file_id,
            "input_errors": list(self.input_errors),
            "webhook": self.webhook_url and urls.redact_webhook_url(self.webhook_url),
        }


def check_not_deleting(batch: BatchView) -> None:
    """Raise NotFound if a batch is being deleted: it has only a part of its rows, which must not look complete."""
    if batch.status is BatchStatus.DELETING:
        raise being_deleted(batch.id)


def being_deleted(batch_id: str) -> NotFound:
    """The error for a batch that is being deleted."""
    return NotFound(f"{batch_id} is being deleted; " + LIST_BATCHES)


def _round_or_none(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)
