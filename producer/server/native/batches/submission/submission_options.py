"""The options of a submission: the fields of a JSON body, or texts in a query string or a form."""

import codecs
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from models.errors import UsageError
from producer.error_params import naming
from producer.readers import given_names
from producer.readers.files.source_files import FILE_FORMATS
from producer.readers.storable import is_storable
from producer.readers.text import jsonl
from producer.server.requests.field_paths import field_error
from producer.submission.options import SubmitOptions
from producer.uploads.intake.read_request import ReadRequest

EXAMPLE: dict[str, Any] = {
    "pipeline": "sample-sentiment-analysis",
    "inputs": ["a fine day", {"custom_id": "review-7", "text": "a bad day"}],
    "name": "reviews",
    "metadata": {"day": "monday"},
}
# In a query string or a form these are JSON; LISTS may be repeated, and the last two kinds may also be plain text.
OBJECTS = ("parameters", "metadata", "input_columns", "bind")
LISTS = ("passthrough", "labels", "status")
TEXT_OR_LIST = ("column_names",)
ESCAPED_NUL = "\\u0000"  # as JSON has it
# What only a JSON body can have.
BODY_ONLY = ("inputs", "ids")


class SubmissionOptions(BaseModel):
    """A submission; give one of `inputs`, `sql`, `from_batch` and `file_id`, or send the rows as the body."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": EXAMPLE})

    pipeline: str = Field(description="See `GET /api/pipelines`.", max_length=200)
    inputs: list[Any] | None = Field(None, description="Texts, or objects with the task's fields.")
    ids: list[str | int | None] | None = Field(None, description="The custom_ids, one for each of `inputs`.")
    sql: str | None = Field(None, max_length=200, description="The name of a query that the operator allows.")
    bind: dict[str, Any] | None = Field(None, description="The parameters of that query.")
    from_batch: str | None = Field(None, max_length=100, description="The results of this ended batch are the inputs.")
    status: str | list[str] | None = Field(None, description="Of `from_batch`: only such results; null = succeeded.")
    labels: str | list[str] | None = Field(None, description="Of `from_batch`: only results with one of these labels.")
    min_score: float | None = Field(None, description="Of `from_batch`: only results with at least this score.")
    file_id: str | None = Field(None, max_length=100, description="A file that was uploaded to `/v1/files`.")
    file_format: str | None = Field(None, description=f"Of the file or body: {', '.join(FILE_FORMATS)}.")
    column_names: str | list[str] | None = Field(
        None, description="Of all columns of a CSV or TSV file without a header, such as `text,label`."
    )
    parameters: dict[str, Any] | None = Field(None, description="The task's parameters; null = the pipeline's.")
    name: str | None = Field(None, description="For people; it need not be unique.")
    metadata: dict[str, str] | None = Field(None, description="Kept with the batch; up to 16 texts.")
    priority: int = Field(0, ge=-1000, le=1000, description="Batches with a higher priority run first.")
    on_invalid: Literal["reject", "fail-row"] = Field("reject", description="What becomes of rows that can't be jobs.")
    deadline: str | None = Field(None, description="`6h`, or a time; remaining jobs expire then.")
    max_failures: StrictInt | str | None = Field(None, description="`20` or `2.5%`; more failed jobs end the batch.")
    input_columns: dict[str, str] | None = Field(None, description="Keys of the objects by field of the task.")
    id_column: str | None = Field(None, description="The key of the custom_id; null = custom_id, else id.")
    use_ids: bool = Field(True, description="False: rows get no custom_id.")
    passthrough: str | list[str] = Field([], description='Keys that are kept and returned; "*" = all others.')
    reuse: bool = Field(False, description="Copy results of earlier batches for the same input and model.")
    webhook_url: str | None = Field(None, max_length=2_000, description="Called when the batch has ended.")
    tenant: str | None = Field(None, description="For whom, if the key is for all tenants.")

    @property
    def submit_options(self) -> SubmitOptions:
        """The options that Python's client has under the same names; the idempotency key is a header."""
        names = {field.name for field in fields(SubmitOptions)} & set(type(self).model_fields)
        return SubmitOptions(**{name: getattr(self, name) for name in names})

    @property
    def read_request(self) -> ReadRequest:
        """How the rows are read."""
        return ReadRequest(
            file_format=self.file_format or ReadRequest().file_format,
            column_names=() if self.column_names is None else given_names.parse_names(self.column_names),
            sql=self.sql,
            bind=self.bind,
            from_batch=self.from_batch,
            status=_as_tuple(self.status),
            labels=_as_tuple(self.labels),
            min_score=self.min_score,
            input_columns=self.input_columns,
            id_column=self.id_column,
            use_ids=self.use_ids and self.ids is None,
            passthrough=_as_tuple(self.passthrough),
            on_invalid=self.on_invalid,
            max_failures=None if self.max_failures is None else str(self.max_failures),
            reuse=self.reuse,
        )


def parse_document(document: object) -> SubmissionOptions:
    """The options in a JSON body; raises UsageError naming the field."""
    if not isinstance(document, dict):
        raise UsageError('the body must be a JSON object, such as {"pipeline": "NAME", "inputs": ["a text"]}')
    for name, value in document.items():
        if name not in BODY_ONLY and not _is_storable([name, value]):
            message = "an option has a NUL character or half a surrogate pair, which no database stores"
            raise UsageError(message, param=name if is_storable(name) else None)
    try:
        return SubmissionOptions.model_validate(document)
    except ValidationError as error:
        raise field_error(error) from None


def _is_storable(value: object) -> bool:
    """Whether every database can store all texts of a document."""
    text = json.dumps(value, ensure_ascii=False)
    return is_storable(text) and ESCAPED_NUL not in text.replace("\\\\", "")  # without backslashes that are text


def parse_texts(pairs: Iterable[tuple[str, str]]) -> SubmissionOptions:
    """The options in a query string or a form; raises UsageError.

    pairs: names and values; `passthrough`, `labels` and `status` may be repeated
    """
    document: dict[str, Any] = {}
    for name, value in pairs:
        if name in BODY_ONLY:
            raise UsageError(f"{name} goes into a JSON body; here the rows are the body", param=name)
        if name in LISTS:
            document.setdefault(name, []).extend(_parse_list(name, value))
        elif name in document:
            raise UsageError(f"{name[:80]!r} is given twice; give it once", param=name[:80])
        else:
            document[name] = _parse_value(name, value)
    return parse_document(document)


def _parse_value(name: str, value: str) -> object:
    with naming(name):
        if name in OBJECTS:
            return _parse_object(name, value)
        return parse_json(name, value) if name in TEXT_OR_LIST and value.startswith("[") else value


def _parse_list(name: str, value: str) -> list[Any]:
    if not value.startswith("["):
        return [value]
    with naming(name):
        items = parse_json(name, value)
    assert isinstance(items, list)
    return items


def _parse_object(name: str, value: str) -> object:
    document = parse_json(name, value)
    if not isinstance(document, dict):
        raise UsageError(f'{name} must be a JSON object, such as {{"key": "value"}}')
    return document


def parse_json(name: str, text: str | bytes) -> object:
    """JSON of a client, which may be of any kind; raises UsageError.

    name: of what it is, for the message
    """
    if isinstance(text, bytes):
        text = text.removeprefix(codecs.BOM_UTF8)
    try:
        return jsonl.parse_json(text)
    except ValueError as error:
        raise UsageError(f"{name} {error}") from None


def _as_tuple(names: str | list[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)
