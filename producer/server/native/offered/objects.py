"""The objects of these routes, as the OpenAPI document describes them; a test compares them with what is sent."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_PIPELINE: dict[str, Any] = {
    "object": "pipeline",
    "name": "sample-ner",
    "task": "ner",
    "model": "bundled:ner",
    "revision": None,
    "guards": {},
    "workers": 2,
    "backlog": {
        "queued_slices": 3,
        "leased_slices": 2,
        "unanswered_jobs": 4810,
        "open_batches": 1,
        "oldest_created_at": "2026-11-24T02:00:00.210Z",
    },
}
EXAMPLE_TASK: dict[str, Any] = {
    "object": "task",
    "name": "ner",
    "aliases": ["token-classification"],
    "summary": "Find the names in texts.",
    "inputs": [{"name": "text", "required": True, "help": "The text to search."}],
    "parameters": {"aggregation_strategy": {"type": "string", "default": "none"}},
    "output": "a list of entities",
    "example": {"input": {"text": "Ada was born in London."}, "output": [{"entity": "B-PER", "word": "Ada"}]},
    "code": None,
}


class Backlog(BaseModel):
    """The open work of a pipeline that this key may see."""

    queued_slices: int
    leased_slices: int
    unanswered_jobs: int
    open_batches: int
    oldest_created_at: datetime | None


class PipelineInput(BaseModel):
    """A column of the rows that a pipeline takes."""

    name: str
    required: bool


class Pipeline(BaseModel):
    """An entry of the catalogue; its other fields are those of `[pipelines.NAME]` in batchmill.toml."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"example": EXAMPLE_PIPELINE})

    object: Literal["pipeline"]
    name: str
    task: str
    model: str
    revision: str | None
    guards: dict[str, Any]
    workers: int = Field(description="Worker processes that serve it now.")
    backlog: Backlog | None = Field(None, description="Only with `backlog=true`.")
    inputs: list[PipelineInput] | None = Field(None, description="Only of one pipeline.")


class PipelineList(BaseModel):
    """Pipelines by name."""

    object: Literal["list"]
    data: list[Pipeline]


class Task(BaseModel):
    """A task with its inputs, parameters, output and example; or the reason why it can't be used."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_TASK})

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

    model_config = ConfigDict(json_schema_extra={"example": {**EXAMPLE_TASK, "limits": {}}})

    limits: dict[str, Any]


class TaskList(BaseModel):
    """Tasks by name."""

    object: Literal["list"]
    data: list[Task]
