"""The input of a task of one's own: the fields of its pydantic class as input fields, and its errors as JobErrors."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python
from pydantic_core.core_schema import ErrorType

from models.documents import to_json
from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS, TextField, is_storable
from models.tasks.own.task import TEXT_CHECK, TaskInput

ERROR_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
MAX_MESSAGE_CHARACTERS = 500
INVALID_FIELD = "invalid_field"
# Messages that may quote the input: those of an author's own checks, and those that name a value as it was found.
QUOTING_ERRORS = frozenset({"value_error", "assertion_error", "union_tag_invalid", "get_attribute_error"})
PYDANTIC_ERRORS = frozenset(get_args(ErrorType)) - QUOTING_ERRORS
# Their messages name a class of Python.
OBJECT_ERRORS = frozenset({"model_type", "model_attributes_type", "dataclass_type", "dict_type", "mapping_type"})


@dataclass(frozen=True, slots=True)
class OwnField:
    """One field of the input; the class of the whole input checks its type."""

    name: str
    info: FieldInfo
    bare_type: type | None = None

    @property
    def help(self) -> str:
        """Its description."""
        return self.info.description or ""

    @property
    def required(self) -> bool:
        """Whether every input needs it."""
        return self.info.is_required()

    def check(self, value: object) -> Any:
        """Return the value ready for JSON. Raises JobError, whose message never quotes the value."""
        if _has_text_check(self.info):
            return TextField(self.name, self.help).check(value)
        try:
            return to_jsonable_python(value)
        except (PydanticSerializationError, ValueError, RecursionError):
            raise JobError(INVALID_FIELD, f"{self.name} is a value that JSON can't hold; give it as text") from None


@dataclass(frozen=True, slots=True)
class OwnInput:
    """The whole input: checks its fields, and the fields together.

    task: the task's name, for messages.
    """

    task: str
    input_class: type[TaskInput]

    def fields(self) -> tuple[OwnField, ...]:
        """The fields; a bare text may stand for the input if the only field that it needs is a text."""
        infos = self.input_class.model_fields
        needed = [name for name, info in infos.items() if info.is_required()] or list(infos)
        bare = needed[0] if len(needed) == 1 and _takes_text(infos[needed[0]].annotation) else None
        return tuple(OwnField(name, info, str if name == bare else None) for name, info in infos.items())

    def check(self, values: Mapping[str, Any], _parameters: Mapping[str, Any]) -> None:
        """Raise the JobError of an input that the task does not take."""
        self.complete(values)

    def complete(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the input as it is stored and as the adapter gets it: checked, with defaults, and ready for JSON.

        Raises JobError.
        """
        try:
            document = self._validate(values).model_dump(mode="json")
        except JobError as error:
            raise checked_job_error(error, self.task) from None
        except ValidationError as error:
            raise JobError(INVALID_FIELD, _describe(error, self.input_class, values)) from None
        except Exception as error:  # of the author's validators; its message may quote the input
            raise JobError(INVALID_FIELD, f"{self.task} can't check it ({type(error).__name__}); correct it") from None
        _check_storable(document)
        return document

    def _validate(self, values: Mapping[str, Any]) -> TaskInput:
        try:
            return self.input_class.model_validate(dict(values), by_alias=False, by_name=True)
        except ValidationError as error:
            # The cells of a CSV file are text, also those of lists and objects.
            wrong = {str(problem["loc"][0]) for problem in error.errors(include_url=False) if problem["loc"]}
            parsed = {name: _parse_cell(value) if name in wrong else value for name, value in values.items()}
            if parsed == values:
                raise
        return self.input_class.model_validate(parsed, by_alias=False, by_name=True)


def checked_job_error(error: JobError, task: str) -> JobError:
    """Return the error that an author raised on purpose; another one if no database would store it."""
    message = str(error)
    if not ERROR_CODE.fullmatch(str(error.code)) or len(message) > MAX_MESSAGE_CHARACTERS or not is_storable(message):
        problem = f"the code must have small letters, digits and '_', and a message {MAX_MESSAGE_CHARACTERS} characters"
        return JobError("task_error", f"task {task} raised a JobError that can't be stored; {problem} at most")
    return error


def _has_text_check(info: FieldInfo) -> bool:
    if TEXT_CHECK in info.metadata:
        return True
    others = [part for part in get_args(info.annotation) if part is not type(None)]
    return len(others) == 1 and TEXT_CHECK in getattr(others[0], "__metadata__", ())


def _takes_text(annotation: Any) -> bool:
    """Whether this is the type of a text, or of a text or nothing."""
    if hasattr(annotation, "__metadata__"):
        annotation = annotation.__origin__
    others = [part for part in get_args(annotation) if part is not type(None)]
    return annotation is str or (len(others) == 1 and type(None) in get_args(annotation) and _takes_text(others[0]))


def _parse_cell(value: Any) -> Any:
    if not _looks_like_json(value):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _looks_like_json(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith(("[", "{"))


def _describe(error: ValidationError, input_class: type[BaseModel], values: Mapping[str, Any]) -> str:
    """Say what is wrong with each field, without its value."""
    problems: dict[str, str] = {}
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        value = values.get(name) if len(problem["loc"]) == 1 else None
        if isinstance(value, str) and not value.strip() and problem["type"] in PYDANTIC_ERRORS:
            problems.setdefault(name, f"{name} is missing, because its text is blank")
            continue
        sentence = _describe_problem(_place(problem["loc"], input_class), problem["type"], problem["msg"])
        problems.setdefault(name, sentence + (", and its text is no valid JSON" if _looks_like_json(value) else ""))
    return "; ".join(problems.values())


def _place(location: Sequence[str | int], input_class: type[BaseModel]) -> str:
    """Return the path of a value, such as `author.langs[0]`: declared names and numbers, no key of a submitter's."""
    place, annotation = "", cast("Any", input_class)
    for part in location:
        annotation = _without_none(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and part in annotation.model_fields:
            place += f".{part}" if place else str(part)
            annotation = annotation.model_fields[str(part)].annotation
        elif isinstance(part, int):
            place += f"[{part}]"
            annotation = next(iter(get_args(annotation)), None)
        else:  # a key of a mapping, or a branch of a union, whose further path is left out
            annotation = get_args(annotation)[1] if get_origin(annotation) is dict else None
    return place


def _without_none(annotation: Any) -> Any:
    """The type itself of one with metadata, or that may be None."""
    while True:
        others = [part for part in get_args(annotation) if part is not type(None)]
        if hasattr(annotation, "__metadata__"):
            annotation = annotation.__origin__
        elif get_origin(annotation) in (Union, UnionType) and len(others) == 1:
            annotation = others[0]
        else:
            return annotation


def _describe_problem(place: str, kind: str, message: str) -> str:
    if kind not in PYDANTIC_ERRORS:
        return f"{place or 'the input'} does not pass the task's own check; see what the task takes"
    if kind == "missing":
        return f"{place} is missing"
    if kind in OBJECT_ERRORS:
        return f"{place} must be an object"
    text = message.partition(", unable")[0].replace("Input should be ", "must be ").replace(" should ", " must ")
    return f"{place} {text}" if text.startswith("must ") else f"{place}: {text[:1].lower()}{text[1:]}"


def _check_storable(document: Mapping[str, Any]) -> None:
    """Raise JobError for an input that is too long, or that a database would not store."""
    try:
        size = len(to_json(document))
    except ValueError:
        raise JobError(INVALID_FIELD, "it has a number that is not finite; give a number, or leave it out") from None
    if size > MAX_TEXT_CHARACTERS:
        raise JobError("text_too_long", f"it has {size:,} characters in all; at most {MAX_TEXT_CHARACTERS:,} are taken")
    if not all(map(is_storable, _texts(document))):
        raise JobError("invalid_text", "it has a NUL character or half a surrogate pair; mend its encoding")


def _texts(document: Any) -> Iterator[str]:
    values = [document]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            values += [*value, *value.values()]
        elif isinstance(value, list):
            values += value
