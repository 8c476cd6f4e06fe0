"""Task specs: the input fields, parameters and output of a task."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from models import validation
from models.errors import InvalidParameters, JobError
from models.tasks.fields import InputField, describe_type

WindowAggregation = Literal["mean", "max", "first", "weighted"]


class Parameters(BaseModel):
    """Base class of task parameters: an allowlist, because some of transformers' options can run code."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task's description, shared by producer and worker.

    check_input: checks fields together, given the stored input and the batch's parameters; raises JobError.
    complete_input: checks fields together as `check_input` does, and returns the stored form. None = they are it.
    variant_pattern: pattern of further names for the task, which are kept as given.
    supports_stride: whether a long text can be read in overlapping windows.
    aggregates_windows: whether a text's scores are those of its windows together, see `window_aggregation`.
    default_window_aggregation: how, unless the pipeline says so.
    label_fields: fields of the output whose texts are labels of the model's configuration; guards do not read them.
    is_random: whether, given these parameters, equal inputs may get different outputs because tokens are sampled.
    """

    name: str
    aliases: tuple[str, ...]
    summary: str
    fields: tuple[InputField, ...]
    parameters: type[Parameters]
    output_description: str
    example_input: dict[str, Any]
    example_output: Any
    check_input: Callable[[Mapping[str, Any], Mapping[str, Any]], None] | None = None
    complete_input: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    variant_pattern: str | None = None
    supports_stride: bool = False
    aggregates_windows: bool = False
    default_window_aggregation: WindowAggregation = "mean"
    label_fields: frozenset[str] = frozenset()
    is_random: Callable[[Mapping[str, Any]], bool] = lambda _parameters: False

    def canonical_name(self, name: str) -> str | None:
        """Return the name under which the task is recorded; None if `name` means another task."""
        if name == self.name or name in self.aliases:
            return self.name
        return name if self.variant_pattern and re.fullmatch(self.variant_pattern, name) else None

    def normalise(self, raw: object, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the stored form of an input: an object of the task's fields.

        A bare value becomes the first field that accepts its type. Raises JobError with a stable code. The caller
        removes other keys first.
        """
        if not isinstance(raw, Mapping):
            raw = {self._bare_field_name(raw): raw}
        stored = {}
        for field in self.fields:
            value = raw.get(field.name)
            if value is not None:
                stored[field.name] = field.check(value)
            elif field.required:
                raise self._missing_field_error(field)
        if self.complete_input is not None:
            return self.complete_input(stored)
        if self.check_input is not None:
            self.check_input(stored, parameters or {})
        return stored

    def find_errors(self, raw: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> list[JobError]:
        """All errors of an input that `normalise` rejects, one for each field or one of the fields together."""
        errors = []
        for field in self.fields:
            value = raw.get(field.name)
            if value is None:
                errors += [self._missing_field_error(field)] if field.required else []
                continue
            try:
                field.check(value)
            except JobError as error:
                errors.append(error)
        if errors:
            return errors
        try:
            self.normalise(raw, parameters)
        except JobError as error:
            errors.append(error)
        return errors

    def _missing_field_error(self, field: InputField) -> JobError:
        return JobError("missing_field", f"{field.name} is missing; an input needs {self._required_names()}")

    def _bare_field_name(self, raw: object) -> str:
        if sum(field.required for field in self.fields) <= 1:
            for field in self.fields:
                if field.bare_type is not None and isinstance(raw, field.bare_type):
                    return field.name
        takes_text = sum(field.required for field in self.fields) <= 1 and any(field.bare_type for field in self.fields)
        expected = "text or an object" if takes_text else "an object"
        raise JobError(
            "not_text", f"an input must be {expected} with {self._required_names()}, not {describe_type(raw)}"
        )

    def check_parameters(self, raw_parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Validate parameters; raises InvalidParameters that names each wrong one and the allowed values."""
        try:
            named = {str(name): value for name, value in raw_parameters.items()}
            return self.parameters.model_validate(named).model_dump(mode="json", exclude_unset=True)
        except ValidationError as error:
            unknown = f"{self.name} has no parameter"
            raise InvalidParameters(
                validation.describe_problems(error, self.parameters, unknown, "parameter")
            ) from None

    @property
    def field_names(self) -> str:
        """The names of all fields for display, optional ones in brackets: `text, [text_pair]`."""
        return ", ".join(field.name if field.required else f"[{field.name}]" for field in self.fields)

    def _required_names(self) -> str:
        required = [field.name for field in self.fields if field.required]
        return " and ".join(required) or " or ".join(field.name for field in self.fields)
