"""The spec of a task of one's own, which its author wrote down as a `Task`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import PydanticUserError, ValidationError

from models import operator_code, validation
from models.documents import from_json, to_json
from models.errors import InvalidParameters, JobError, SettingsError
from models.tasks.fields import EXPORTED_NAMES
from models.tasks.own.input_fields import OwnInput
from models.tasks.own.task import API_VERSION, Task, TaskInput
from models.tasks.spec import Parameters, TaskSpec

TASK_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
TEMPLATE_PARAMETERS = frozenset({"prompt", "system"})  # a batch records the pipeline's templates under these names


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTaskSpec(TaskSpec):
    """The spec, with what a worker needs beside it.

    task: what the author wrote.
    reference: where it is: `package.module:object`.
    """

    task: Task
    reference: str

    @property
    def own_input(self) -> OwnInput:
        """What checks the task's inputs, whatever the prompt of a pipeline makes of them."""
        return OwnInput(self.name, self.task.input)

    @property
    def code_version(self) -> str | None:
        """The versions of the packages with the task and its adapter, or hashes of their files.

        None = the adapter is not on this machine.
        """
        versions = {operator_code.code_version(reference): None for reference in (self.reference, self.task.adapter)}
        known = [version for version in versions if version is not None]
        return ", ".join(known) if len(known) == len(versions) else None

    def check_parameters(self, raw_parameters: Mapping[str, Any]) -> dict[str, Any]:
        """As `TaskSpec.check_parameters`; values are read as JSON has them, so that a list may become a tuple."""
        try:
            return self._read_parameters(raw_parameters).model_dump(mode="json", exclude_unset=True)
        except ValidationError as error:
            problem = self._describe(error)
        raise InvalidParameters(problem)

    def check_entry_parameters(self, raw_parameters: Mapping[str, Any]) -> None:
        """As `check_parameters` for those of a catalogue entry; a batch may add those without a default."""
        try:
            self._read_parameters(raw_parameters)
        except ValidationError as error:
            problem = self._describe(error)
            if all(each["type"] == "missing" for each in error.errors(include_input=False, include_context=False)):
                return
            raise InvalidParameters(problem) from None

    def _read_parameters(self, raw_parameters: Mapping[str, Any]) -> Parameters:
        try:
            document = to_json({str(name): value for name, value in raw_parameters.items()})
        except (TypeError, ValueError) as error:
            kind = type(error).__name__
            raise InvalidParameters(f"the parameters of {self.name} can't be read ({kind}); give JSON") from None
        return self.parameters.model_validate_json(document)

    def _describe(self, error: ValidationError) -> str:
        return validation.describe_problems(error, self.parameters, f"{self.name} has no parameter", "parameter")

    def complete_stored_parameters(self, document: str) -> dict[str, Any]:
        """Return a batch's recorded parameters, JSON, as the adapter gets them: with the defaults of those not set.

        Raises ValueError if this version of the task does not take them.
        """
        return _complete_parameters(self.task, from_json(document))


def make_spec(task: object, reference: str) -> OwnTaskSpec:
    """Return the spec of the object that a reference names. Raises SettingsError that says what is wrong with it."""
    if not isinstance(task, Task):
        raise SettingsError(f"{reference} is no batchmill.Task, but a {type(task).__name__}; correct the reference")
    if problem := _find_problem(task):
        raise SettingsError(f"{reference}: {problem}")
    own_input = OwnInput(task.name, task.input)
    spec = OwnTaskSpec(
        name=task.name,
        aliases=tuple(task.aliases),
        summary=task.summary,
        fields=own_input.fields(),
        parameters=task.parameters,
        output_description=task.output,
        example_input=task.example_input,
        example_output=task.example_output,
        check_input=own_input.check,
        complete_input=own_input.complete,
        is_random=partial(_is_random, task),
        task=task,
        reference=reference,
    )
    _check_example(spec)
    return spec


def _complete_parameters(task: Task, stored: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in stored.items() if name not in TEMPLATE_PARAMETERS}
    return task.parameters.model_validate_json(to_json(own)).model_dump(mode="json")


def _is_random(task: Task, parameters: Mapping[str, Any]) -> bool:
    try:
        return bool(task.is_random(_complete_parameters(task, parameters)))
    except Exception:  # the author's; equal inputs are then neither merged nor reused
        return True


def _check_example(spec: OwnTaskSpec) -> None:
    try:
        spec.normalise(spec.example_input)
        to_json(spec.example_output)
        spec.check_parameters(spec.task.example_parameters)
        spec.parameters.model_json_schema()
    except JobError as error:
        raise SettingsError(f"{spec.reference}: its example_input is no input of it: {error}") from None
    except InvalidParameters as error:
        raise SettingsError(f"{spec.reference}: its example_parameters are wrong: {error}") from None
    except (TypeError, ValueError):
        raise SettingsError(f"{spec.reference}: its example_output is not ready for JSON; correct it") from None
    except PydanticUserError:
        raise SettingsError(f"{spec.reference}: its parameters have a type that JSON has not; correct it") from None


def _find_problem(task: Task) -> str | None:
    if task.api_version != API_VERSION:
        return f"its api_version is {task.api_version}, and this Batchmill has {API_VERSION}; update one of them"
    for name in (task.name, *task.aliases):
        if not isinstance(name, str) or not TASK_NAME.fullmatch(name):
            return f"its name {str(name)[:80]!r} must have small letters, digits and '-', at most 63, and no '-' first"
    if not operator_code.is_reference(task.adapter):
        return "its adapter must be a reference such as my_package.adapter:MyAdapter"
    if not _is_subclass(task.input, TaskInput):
        return "its input must be a class derived from batchmill.TaskInput"
    if not _is_subclass(task.parameters, Parameters):
        return "its parameters must be a class derived from batchmill.Parameters"
    return _find_name_problem(task)


def _is_subclass(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _find_name_problem(task: Task) -> str | None:
    if not task.input.model_fields:
        return "its input has no fields; give it one"
    folded = [name.lower() for name in task.input.model_fields]
    for name in folded:
        if name in EXPORTED_NAMES:
            return f"its field {name!r} is a column of results; name it otherwise"
        if folded.count(name) > 1:
            return f"it has two fields {name!r} that differ only in capitals; name one otherwise"
    for name in task.parameters.model_fields:
        if name in TEMPLATE_PARAMETERS:
            return f"its parameter {name!r} is a setting of pipelines; name it otherwise"
    return None
