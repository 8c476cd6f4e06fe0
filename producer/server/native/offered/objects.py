"""The objects of these routes, as the OpenAPI document describes them; a test compares them with what is sent."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Backlog(BaseModel):
    """The open work of a pipeline that this key may see."""

    queued_slices: int
    leased_slices: int
    unanswered_jobs: int
    open_batches: int
    oldest_created_at: datetime | None


class Pipeline(BaseModel):
    """An entry of the catalogue; its other fields are those of `[pipelines.NAME]` in batchmill.toml."""

    model_config = ConfigDict(extra="allow")

    object: Literal["pipeline"]
    name: str
    task: str
    model: str
    revision: str | None
    guards: dict[str, Any]
    workers: int = Field(description="Worker processes that serve it now.")
    backlog: Backlog | None = Field(None, description="Only with `backlog=true`.")


class PipelineList(BaseModel):
    """Pipelines by name."""

    object: Literal["list"]
    data: list[Pipeline]


class Task(BaseModel):
    """A task with its inputs, parameters, output and example; or the reason why it can't be used."""

    object: Literal["task"]
    name: str
    aliases: list[str] = []
    summary: str | None = None
    inputs: list[dict[str, Any]] = []
    parameters: dict[str, Any] = Field({}, description="The JSON schema of each parameter.")
    output: str | None = None
    example: dict[str, Any] | None = None
    code: str | None = Field(None, description="The version of a task of one's own.")
    origin: str | None = None
    problem: str | None = Field(None, description="Why the task can't be used here.")


class TaskWithLimits(Task):
    """A task, and the limits of each pipeline that has it."""

    limits: dict[str, Any]


class TaskList(BaseModel):
    """Tasks by name."""

    object: Literal["list"]
    data: list[Task]
