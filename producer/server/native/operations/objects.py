"""The objects of these routes, as the OpenAPI document describes them; a test compares them with what is sent."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_WORKER: dict[str, Any] = {
    "id": "gpu-1:4117:1f0c",
    "object": "worker",
    "host": "gpu-1",
    "pid": 4117,
    "device": "cuda:0",
    "pipeline": "sample-ner",
    "model": "bundled:ner",
    "revision": None,
    "served_pipelines": ["sample-ner"],
    "state": "ready",
    "alive": True,
    "state_seconds": 312.5,
    "uptime_seconds": 340.1,
    "heartbeat_seconds_ago": 1.2,
    "utilisation": 0.93,
    "jobs_per_second": 1187.4,
    "tokens_per_second": 20511.9,
    "load_failures": [],
}
EXAMPLE_FINDING: dict[str, Any] = {
    "level": "warning",
    "what": "redis",
    "message": "no `batchmill up` runs in this home",
    "advice": "to process batches, run: batchmill up",
}


class LoadFailure(BaseModel):
    """A pipeline that a worker can't load."""

    pipeline: str
    error_code: str
    error_message: str
    attempts: int
    next_attempt_in_seconds: float


class Worker(BaseModel):
    """A worker process."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_WORKER})

    id: str
    object: Literal["worker"]
    host: str
    pid: int
    device: str
    pipeline: str
    model: str
    revision: str | None
    served_pipelines: list[str]
    state: str
    alive: bool = Field(description="False without a heartbeat for three leases.")
    state_seconds: float
    uptime_seconds: float
    heartbeat_seconds_ago: float
    utilisation: float = Field(description="The share of the last five minutes in which its device computed, 0 to 1.")
    jobs_per_second: float | None = Field(description="In the minutes of the last hour in which it worked.")
    tokens_per_second: float | None = Field(description="Without padding.")
    load_failures: list[LoadFailure]


class WorkerList(BaseModel):
    """Worker processes by pipeline."""

    object: Literal["list"]
    data: list[Worker]


class Finding(BaseModel):
    """The state of one part, and what to do."""

    level: Literal["ok", "warning", "problem"]
    what: str
    message: str
    advice: str | None


class DoctorReport(BaseModel):
    """The findings of the doctor."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"object": "doctor", "healthy": True, "findings": [EXAMPLE_FINDING]}}
    )

    object: Literal["doctor"]
    healthy: bool
    findings: list[Finding]


class AuditProblem(BaseModel):
    """Something lost, duplicated or contradictory."""

    batch_id: str
    code: str
    level: Literal["warning", "problem"]
    message: str
    count: int | None
    locations: list[dict[str, Any]]


class Audit(BaseModel):
    """The result of an audit."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"object": "audit", "batches": 1, "jobs": 4810, "sound": True, "problems": []}}
    )

    object: Literal["audit"]
    batches: int
    jobs: int
    sound: bool
    problems: list[AuditProblem]
