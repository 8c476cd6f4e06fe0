"""`GET /api/activity`: how fast work goes, and what fails."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from producer.activity import failures, throughput
from producer.activity.minutes import MAX_MINUTES
from producer.server.access import Reader
from producer.server.context import Context
from producer.server.native import responses

router = APIRouter(tags=["operations"])

EXAMPLE: dict[str, Any] = {
    "object": "activity",
    "since": "2026-11-25T11:56:00.000Z",
    "until": "2026-11-25T12:00:12.520Z",
    "jobs_per_second": 1210.3,
    "pipelines": [
        {
            "pipeline": "sample-ner",
            "succeeded": 71200,
            "failed": 3,
            "tokens": 1281600,
            "device_seconds": 58.1,
            "jobs_per_second": 593.4,
            "tokens_per_second": 10680.0,
            "jobs_per_device_second": 1225.5,
            "tokens_per_device_second": 22058.5,
            "per_minute": [0, 0, 0, 55103, 16100],
        }
    ],
    "failures": [{"error_code": "empty_text", "jobs": 3, "pipelines": [{"pipeline": "sample-ner", "jobs": 3}]}],
}


class PipelineActivity(BaseModel):
    """What was done with a pipeline. Rates are over the minutes in which jobs ended, or over device seconds."""

    pipeline: str
    succeeded: int
    failed: int
    tokens: int = Field(description="Without padding.")
    device_seconds: float = Field(description="With the time of guards.")
    jobs_per_second: float | None
    tokens_per_second: float | None
    jobs_per_device_second: float | None
    tokens_per_device_second: float | None
    per_minute: list[int] = Field(description="Jobs that ended in each minute, the oldest minute first.")


class PipelineFailures(BaseModel):
    """How many jobs of a pipeline failed."""

    pipeline: str
    jobs: int


class FailureCount(BaseModel):
    """How many jobs failed with a code."""

    error_code: str
    jobs: int
    pipelines: list[PipelineFailures]


class Activity(BaseModel):
    """Throughput and failures of the last minutes, of which the last is not over yet."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    object: Literal["activity"]
    since: datetime = Field(description="The start of the first minute.")
    until: datetime = Field(description="Now, by the database's clock.")
    jobs_per_second: float = Field(description="Over the current minute and the one before.")
    pipelines: list[PipelineActivity]
    failures: list[FailureCount]


@router.get("/activity", summary="Show throughput and failures", response_model=Activity)
def show_activity(
    context: Context,
    principal: Reader,
    minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES, description="With the current one; at most a day.")] = 60,
) -> Response:
    """Show the jobs that ended in the last minutes by pipeline and minute, and the failed ones by error code.

    A key of one tenant sees its own jobs. Reused results and invalid rows count nothing, because no worker ran them.
    """
    document = throughput.read_throughput(context.database, minutes, principal.tenant).as_dict()
    counts = failures.count_failures(context.database, minutes, principal.tenant)
    return responses.json_response(
        {"object": "activity", **document, "failures": [count.as_dict() for count in counts]}
    )
