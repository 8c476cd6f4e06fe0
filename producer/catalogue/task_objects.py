"""Tasks as JSON objects: their inputs, parameters, output and example."""

from collections.abc import Mapping
from typing import Any

from models import tasks as all_tasks
from models.pipelines.options.generation_limits import GenerationLimits
from models.pipelines.pipeline import Pipeline
from models.tasks.generic import GENERIC_SPECS
from models.tasks.generic.transformers_pipeline import TRANSFORMERS_PIPELINE
from models.tasks.own import registry
from models.tasks.own.own_spec import OwnTaskSpec
from models.tasks.own.registry import BrokenTask
from models.tasks.spec import TaskSpec
from models.tasks.text_generation import TEXT_GENERATION


def list_tasks() -> list[TaskSpec | BrokenTask]:
    """Return the tasks, those of installed packages and of batchmill.toml among them."""
    return [*all_tasks.TASKS.values(), *GENERIC_SPECS, *registry.load_all()]


def find_task(name: str) -> TaskSpec:
    """Return a task by its name or alias, also by the word that the list has for any pipeline of transformers.

    Raises UsageError.
    """
    if name == TRANSFORMERS_PIPELINE.name:
        return TRANSFORMERS_PIPELINE
    return all_tasks.find_spec(all_tasks.canonical_name(name))


def task_object(spec: TaskSpec | BrokenTask) -> dict[str, Any]:
    """Return a task as `batchmill tasks --json` prints it."""
    if isinstance(spec, BrokenTask):
        return {"object": "task", "name": spec.name, "origin": spec.origin, "problem": spec.problem}
    return {
        "object": "task",
        "name": spec.name,
        "aliases": list(spec.aliases),
        "summary": spec.summary,
        "inputs": [{"name": field.name, "required": field.required, "help": field.help} for field in spec.fields],
        "parameters": parameter_schemas(spec),
        "output": spec.output_description,
        "example": {"input": spec.example_input, "output": spec.example_output},
        "code": spec.code_version if isinstance(spec, OwnTaskSpec) else None,
    }


def parameter_schemas(spec: TaskSpec) -> dict[str, Any]:
    """Return the JSON schema of each parameter."""
    properties: dict[str, Any] = spec.parameters.model_json_schema().get("properties", {})
    return properties


def limits_in_force(spec: TaskSpec, pipelines: Mapping[str, Pipeline]) -> dict[str, dict[str, Any]]:
    """Return the limits of each pipeline that has such a task; empty for tasks without limits."""
    if spec is not TEXT_GENERATION:
        return {}
    limits: dict[str, GenerationLimits | None] = {
        name: pipeline.generation_limits for name, pipeline in pipelines.items()
    }
    return {name: values.model_dump() for name, values in limits.items() if values is not None}
