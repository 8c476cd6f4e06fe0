"""The parameters of a task as fields of a form, made from their JSON schemas. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.documents import to_json
from models.errors import InvalidParameters
from models.pipelines import redaction
from models.pipelines.pipeline import Pipeline
from producer.catalogue.task_objects import parameter_schemas
from producer.readers.text import jsonl

# Shown at once; the others are behind "More parameters", unless there are only a few.
COMMON = frozenset({"candidate_labels", "do_sample", "max_new_tokens", "num_beams", "seed", "temperature", "top_k"})
MAX_SHOWN_AT_ONCE = 6
NUMBERS = {"integer": "integer", "number": "number"}
NULL, TRUE, FALSE = "null", "true", "false"
SECRET_PREFIX = "sha256:"  # of a redacted value
LIMITED_BY = {"max_new_tokens": "max_new_tokens", "min_new_tokens": "max_new_tokens", "max_time": "max_time"} | {
    "num_return_sequences": "max_return_sequences"
}


@dataclass(frozen=True, slots=True)
class ParameterField:
    """One parameter.

    kind: integer, number, choice, text, texts (several, with commas), text_or_list (one, or several as JSON) or json
    default: in words
    choices: the texts and what they mean, for a choice
    """

    name: str
    kind: str
    help: str
    default: str
    choices: Mapping[str, Any]
    minimum: float | None
    maximum: float | None
    accepts_null: bool
    is_advanced: bool

    @property
    def limits(self) -> str:
        """The smallest and the largest value in words; empty without any."""
        low, high = (None if value is None else _as_number(value) for value in (self.minimum, self.maximum))
        if low is not None and high is not None:
            return f"{low} to {high}"
        return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""

    def parse(self, text: str) -> Any:
        """Return the value that a text means; raises InvalidParameters."""
        if text == NULL and self.accepts_null:
            return None
        if self.kind in NUMBERS.values():
            return self._parse_number(text)
        if self.kind == "choice":
            if text not in self.choices:
                raise self._error(f"must be one of {', '.join(self.choices)}")
            return self.choices[text]
        if self.kind == "json" or (self.kind in ("texts", "text_or_list") and text.startswith("[")):
            return self._parse_json(text)
        if self.kind == "texts":
            return [item.strip() for item in text.split(",") if item.strip()]
        return text

    def _parse_number(self, text: str) -> float:
        try:
            return int(text) if self.kind == "integer" else float(text)
        except ValueError:
            kind = "a whole number" if self.kind == "integer" else "a number"
            raise self._error(f"must be {kind}") from None

    def _parse_json(self, text: str) -> Any:
        try:
            return jsonl.parse_json(text)
        except ValueError as error:
            raise self._error(str(error)) from None

    def _error(self, problem: str) -> InvalidParameters:
        return InvalidParameters(f"parameter {self.name!r} {problem}")


def parameter_fields(pipeline: Pipeline) -> list[ParameterField]:
    """Return the fields for a pipeline, those that are shown at once first."""
    schemas = parameter_schemas(pipeline.spec)
    has_few = len(schemas) <= MAX_SHOWN_AT_ONCE
    fields = [
        _field(name, schema, pipeline, is_advanced=not has_few and name not in COMMON)
        for name, schema in schemas.items()
    ]
    return sorted(fields, key=lambda item: item.is_advanced)


def _field(name: str, schema: Mapping[str, Any], pipeline: Pipeline, *, is_advanced: bool) -> ParameterField:
    options = schema.get("anyOf") or [schema]
    values = [option for option in options if option.get("type") != "null"]
    accepts_null = len(values) < len(options)
    choices = _choices(values)
    kind = "choice" if choices is not None else _kind(values)
    number: Mapping[str, Any] = values[0] if kind in NUMBERS.values() else {}
    return ParameterField(
        name=name,
        kind=kind,
        help=str(schema.get("description", "")),
        default=_default(name, schema, pipeline),
        choices=choices or {},
        minimum=number.get("minimum", number.get("exclusiveMinimum")),
        maximum=_maximum(name, number, pipeline),
        accepts_null=accepts_null and schema.get("default") is not None,
        is_advanced=is_advanced,
    )


def _choices(options: list[Any]) -> dict[str, Any] | None:
    """The values of a parameter that has only a few; None for others."""
    choices: dict[str, Any] = {}
    for option in options:
        if option.get("type") == "boolean" and "enum" not in option and "const" not in option:
            choices |= {TRUE: True, FALSE: False}
        elif "enum" in option or "const" in option:
            choices |= {_as_text(value): value for value in option.get("enum", [option.get("const")])}
        else:
            return None
    return choices


def _kind(options: list[Any]) -> str:
    types = {option.get("type") for option in options}
    if len(types) == 1 and (number := NUMBERS.get(next(iter(types)) or "")) is not None:
        return number
    if types == {"string"}:
        return "text"
    items = [option.get("items", {}).get("type") for option in options if option.get("type") == "array"]
    if items != ["string"] or not types <= {"array", "string"}:
        return "json"
    return "text_or_list" if "string" in types else "texts"


def _default(name: str, schema: Mapping[str, Any], pipeline: Pipeline) -> str:
    if name not in pipeline.parameters:
        value = schema.get("default")
        return "" if value is None else _as_text(value)
    value = redaction.redact_parameters(pipeline.parameters)[name]
    return "set by the pipeline" if str(value).startswith(SECRET_PREFIX) else _as_text(value)


def _maximum(name: str, number: Mapping[str, Any], pipeline: Pipeline) -> float | None:
    maximum: float | None = number.get("maximum", number.get("exclusiveMaximum"))
    limits = pipeline.generation_limits
    if maximum is None or limits is None or name not in LIMITED_BY:
        return maximum
    lower: float = min(maximum, getattr(limits, LIMITED_BY[name]))
    return lower


def _as_number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else to_json(value) if not isinstance(value, float) else json.dumps(value)
