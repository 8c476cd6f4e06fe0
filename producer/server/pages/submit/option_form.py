"""The options of a submission as the fields of a form: what it sends becomes what the API takes. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.errors import BatchmillError, UsageError
from models.pipelines.pipeline import Pipeline
from producer.server.native.batches.submission import submission_options
from producer.server.native.batches.submission.submission_options import SubmissionOptions
from producer.server.pages.submit.parameter_fields import ParameterField
from producer.uploads.files import FileView

COLUMN, PARAMETER = "column.", "parameter."  # before the name of a field of the task, or of a parameter
NO_IDS = "*none"  # as the id column; no header has it, because a name in the list comes first
KEY = "key"  # the idempotency key
TEXTS = ("name", "deadline", "max_failures", "on_invalid", "webhook_url")
MAX_VALUE_CHARACTERS = 20_000  # of one field that is shown again
# How the messages about an option begin.
STARTS = {
    "the deadline": "deadline",
    "deadline": "deadline",
    "max_failures": "max_failures",
    "priority": "priority",
    "the name": "name",
    "name": "name",
    "metadata": "metadata",
    "a metadata key": "metadata",
    "webhook_url": "webhook_url",
    "webhook": "webhook_url",
    "the webhook": "webhook_url",
    "on_invalid": "on_invalid",
}

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FormValues:
    """What the fields of the form have.

    texts: by the name of the field
    kept: the columns that are kept with each job
    """

    texts: Mapping[str, str]
    kept: tuple[str, ...] = ()

    @classmethod
    def of(cls, pairs: Pairs) -> "FormValues":
        """The values that a form sent, or that an address has; the last one of a name counts."""
        texts, kept = {}, []
        for name, value in pairs:
            if name == "keep":
                kept.append(value)
            else:
                texts[name] = value[:MAX_VALUE_CHARACTERS]
        return cls(texts, tuple(kept))

    def get(self, name: str, default: str = "") -> str:
        """The text of a field, without blanks around it."""
        return self.texts.get(name, default).strip()

    def column(self, field: str) -> str:
        """The column of a field of the task, as it is named in the file."""
        return self.texts.get(COLUMN + field, "")

    def has(self, name: str) -> bool:
        """Whether the form, or the address, has the field at all."""
        return name in self.texts


class MissingColumn(UsageError):
    """A field of the task has no column yet.

    param: the field of the form
    """

    def __init__(self, field: str) -> None:
        super().__init__(f"choose the column that has the {field}", param=COLUMN + field)


def parse(
    values: FormValues,
    pipeline: Pipeline,
    parameters: Iterable[ParameterField],
    file: FileView,
    file_format: str,
    *,
    has_bare_texts: bool = False,
) -> SubmissionOptions:
    """Return the options that a form means; raises UsageError, whose `param` is the field of the form.

    has_bare_texts: the rows are texts without columns
    """
    document: dict[str, Any] = {name: text for name in TEXTS if (text := values.get(name))}
    document |= {"pipeline": pipeline.name, "file_id": file.id, "file_format": file_format, "tenant": file.tenant}
    if names := values.get("column_names"):
        document["column_names"] = names
    if priority := values.get("priority"):
        document["priority"] = _parse_priority(priority)
    if metadata := values.get("metadata"):
        document["metadata"] = parse_metadata(metadata)
    document["reuse"] = values.get("reuse") == "on"
    document["parameters"] = _parse_parameters(values, parameters)
    if not has_bare_texts:
        document |= _parse_columns(values, pipeline)
    return submission_options.parse_document(document)


def parse_metadata(text: str) -> dict[str, str]:
    """Return the entries of lines such as `day=monday`; raises UsageError."""
    entries = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, separator, value = line.partition("=")
        if not separator or not key.strip():
            raise UsageError("metadata has a line without a key; write each as key=value", param="metadata")
        entries[key.strip()] = value.strip()
    return entries


def field_of(error: BatchmillError, names: Iterable[str]) -> str | None:
    """Return the field of the form that an error is about; None if it names none.

    names: of the fields that the form has
    """
    names = list(names)
    param = getattr(error, "param", None)
    if param in names:
        return str(param)
    message = str(error)
    parameter = re.match(r"parameter '([\w.]{1,100})'", message)
    if parameter is not None and PARAMETER + parameter[1] in names:
        return PARAMETER + parameter[1]
    return next((name for start, name in STARTS.items() if message.startswith(start) and name in names), None)


def _parse_priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError("priority must be a whole number from -1000 to 1000", param="priority") from None


def _parse_parameters(values: FormValues, parameters: Iterable[ParameterField]) -> dict[str, Any]:
    parsed = {}
    for item in parameters:
        if text := values.get(PARAMETER + item.name):
            parsed[item.name] = item.parse(text)
    return parsed


def _parse_columns(values: FormValues, pipeline: Pipeline) -> dict[str, Any]:
    columns = {}
    for item in pipeline.spec.fields:
        column = values.column(item.name)
        if column:
            columns[item.name] = column
        elif item.required:
            raise MissingColumn(item.name)
    if not columns:
        raise MissingColumn(pipeline.spec.fields[0].name)
    document: dict[str, Any] = {"input_columns": columns, "passthrough": list(values.kept)}
    id_column = values.texts.get("id_column", "")
    if id_column == NO_IDS:
        document["use_ids"] = False
    elif id_column:
        document["id_column"] = id_column
    return document
