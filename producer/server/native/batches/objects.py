"""The objects of these routes, as the OpenAPI document describes them; a test compares them with what is sent."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_ID = "batch_019ac3f2b7c87d1c"
EXAMPLE_COUNTS = {"total": 3, "succeeded": 2, "failed": 1, "cancelled": 0, "expired": 0, "unanswered": 0}
EXAMPLE_BATCH: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "object": "batch",
    "status": "completed",
    "created_at": "2026-11-25T06:00:00.000Z",
    "in_progress_at": "2026-11-25T06:00:00.120Z",
    "completed_at": "2026-11-25T06:00:02.310Z",
    "request_counts": EXAMPLE_COUNTS,
    "metadata": {"day": "monday"},
    "name": "reviews",
    "pipeline": "sentiment",
    "task": "sentiment-analysis",
    "tenant": "default",
}
EXAMPLE_RESULT: dict[str, Any] = {
    "batch_id": EXAMPLE_ID,
    "position": 0,
    "custom_id": "review-7",
    "input": {"text": "a fine day"},
    "status": "succeeded",
    "output": {"label": "POSITIVE", "score": 0.9998},
    "truncated": False,
    "attempts": 1,
    "seq": 1,
    "finished_at": "2026-11-25T06:00:02.310Z",
}

JobStatus = Literal["succeeded", "failed", "cancelled", "expired"]
BatchState = Literal[
    "validating", "in_progress", "completed", "failed", "expired", "cancelling", "cancelled", "deleting"
]


class RequestCounts(BaseModel):
    """The jobs of a batch by outcome; the total is the sum of the others."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    unanswered: int = Field(description="Jobs without a result; 0 while the batch is `validating`.")


class Batch(BaseModel):
    """A batch, with the fields of OpenAI's Batch object and times in ISO 8601."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_BATCH})

    id: str
    object: Literal["batch"]
    status: BatchState
    error_code: str | None
    error_message: str | None
    created_at: datetime | None
    in_progress_at: datetime | None
    expires_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    expired_at: datetime | None
    cancelling_at: datetime | None
    cancelled_at: datetime | None
    request_counts: RequestCounts
    reused: int = Field(description="Jobs whose results were copied from earlier batches.")
    ingesting: bool = Field(description="Whether more rows are being read.")
    metadata: dict[str, str]
    name: str | None
    pipeline: str
    task: str
    model: str
    revision: str | None
    dtype: str | None
    device: str | None
    adapter: str | None
    adapter_revision: str | None
    parameters: dict[str, Any]
    priority: int
    tokens: int
    padded_tokens: int
    padding_share: float | None
    device_seconds: float
    working_seconds: float
    devices_busy: float | None
    jobs_per_second: float | None
    guards: list[dict[str, Any]]
    source_batch_id: str | None
    tenant: str
    input_file_id: str | None
    webhook: str | None = Field(description="The host that is called when the batch has ended.")
    input_errors: list[dict[str, Any]] = Field(description="Lines that can't be jobs, if they rejected the batch.")


class SubmittedBatch(Batch):
    """A batch as its submission is answered."""

    already_submitted: bool = Field(description="Whether it existed under its idempotency key.")
    warning: str | None = Field(
        description="Why workers may start late, what was assumed of rows, or how a batch ended."
    )


class BatchList(BaseModel):
    """A page of batches, the newest first."""

    object: Literal["list"]
    data: list[Batch]
    has_more: bool
    last_id: str | None = Field(description="Give it as `after` to get the next page.")


class DeletedBatch(BaseModel):
    """A batch that is gone, or that goes in the background."""

    id: str
    object: Literal["batch.deleted"]
    deleted: bool = Field(description="False while a large batch is still being deleted.")


class Blocker(BaseModel):
    """A reason why no worker works on a batch."""

    code: str
    message: str


class BlockerList(BaseModel):
    """The reasons; none while a worker works on the batch, or after its end."""

    object: Literal["list"]
    data: list[Blocker]


class Attempt(BaseModel):
    """The end of one claim, or one result, for the jobs from the first position to the last."""

    object: Literal["attempt", "superseded_result", "result"]
    first_position: int
    last_position: int
    attempt: int
    outcome: str
    worker_id: str | None
    slice_id: int | None
    fencing_token: int | None
    error_code: str | None
    error_message: str | None
    claimed_at: datetime | None
    ended_at: datetime


class AttemptList(BaseModel):
    """Attempts, the oldest first."""

    object: Literal["list"]
    data: list[Attempt]


class Requeued(BaseModel):
    """What a retry or a repair did."""

    object: Literal["batch.requeued"]
    requeued_jobs: int
    advice: str | None = Field(description="Which jobs a retry can't help.")
    warning: str | None = Field(description="Why workers may start late.")
    batch: Batch


class Result(BaseModel):
    """The result of one job, with the model that computed it."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_RESULT})

    batch_id: str
    position: int
    custom_id: str | None
    input: Any
    passthrough: Any
    status: JobStatus
    output: Any = Field(description="As the task's pipeline returns it; null unless the job succeeded.")
    error_code: str | None
    error_message: str | None
    truncated: bool
    model: str | None
    revision: str | None
    dtype: str | None
    device: str | None
    attempts: int
    seq: int = Field(description="The order in which results landed; a cursor.")
    finished_at: datetime
    reused_from: str | None
    windows: int | None
    guards: Any
    original_input: Any
    source_batch_id: str | None
    source_position: int | None
    adapter: str | None
    adapter_revision: str | None
    input_tokens: int | None = Field(description="As the model read the input, in all its windows.")
    output_tokens: int | None = Field(description="That were generated, with the end token of each text.")
    finish_reason: Literal["stop", "length"] | None = Field(
        description="How a generated text ended; length: at its limit of tokens or of time."
    )


class ResultPage(BaseModel):
    """A page of results in the order in which they landed."""

    object: Literal["list"]
    data: list[Result]
    has_more: bool = Field(description="Whether there are more already.")
    next_after: int = Field(description="Give it as `after` to read on, also for later results.")


class ErrorPage(BaseModel):
    """A page of failed jobs in the order of the inputs."""

    object: Literal["list"]
    data: list[Result]
    has_more: bool
    next_after: int = Field(description="The last position; give it as `after` to read on.")


class FailureCount(BaseModel):
    """How many jobs failed with a code."""

    code: str
    jobs: int


class FailureCounts(BaseModel):
    """The failed jobs by code, the most frequent first."""

    object: Literal["list"]
    data: list[FailureCount]
