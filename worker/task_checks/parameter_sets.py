"""Other values of a task's parameters, made of their JSON schema. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.errors import InvalidParameters, JobError
from models.tasks.spec import TaskSpec

MAX_SETS = 4
TIME_LIMITS = {"max_time"}  # what a row has written when its time is over differs from run to run


def make(spec: TaskSpec, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return up to MAX_SETS sets of parameters, each with one other value, that the task takes."""
    found: list[dict[str, Any]] = []
    properties = spec.parameters.model_json_schema().get("properties", {})
    for name, schema in properties.items():
        if name in TIME_LIMITS:
            continue
        for value in _other_values(schema, parameters.get(name, schema.get("default"))):
            changed = {**parameters, name: value}
            if len(found) < MAX_SETS and not spec.is_random(changed) and _is_taken(spec, changed):
                found.append(changed)
                break
    return found


def _is_taken(spec: TaskSpec, parameters: Mapping[str, Any]) -> bool:
    try:
        checked = spec.check_parameters(parameters)
        spec.normalise(spec.example_input, checked)
    except (InvalidParameters, JobError):
        return False
    return True


def _other_values(schema: Mapping[str, Any], value: Any) -> Iterator[Any]:
    """Yield values of the schema's type other than `value`."""
    for kind in schema.get("anyOf", (schema,)):
        candidates: tuple[Any, ...] = tuple(kind.get("enum", ()))
        if kind.get("type") == "boolean":
            candidates = (True, False)
        elif kind.get("type") == "integer":
            candidates = (kind.get("minimum", 1), 2)
        elif kind.get("type") == "number":
            candidates = (kind.get("minimum", 0.5), 0.5)
        yield from (candidate for candidate in candidates if candidate != value)
