"""A batch of an OpenAI client: its first lines say which pipeline it is for, and a repeat of it is the same batch.

OpenAI's client sends a request again after a timeout, without a key that would tell it from a new one. So the same
request, with all its options, within `REPEAT_SECONDS` is taken for a repeat, also if its batch has failed. Two at once
agree on one batch, because both make the same idempotency key from the last such batch before them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text

from models.db import Database
from models.documents import to_json
from models.errors import InvalidParameters, SettingsError, UnknownPipeline, UnreadableSource, UsageError
from models.pipelines.pipeline import Pipeline
from producer.endpoints import ENDPOINTS, BodyError, Endpoint, endpoints_of_task, find_endpoint
from producer.readers.files.compression import decompress
from producer.readers.rows import Problem
from producer.readers.text import openai_lines
from producer.readers.text.openai_lines import FirstRequest
from producer.submission.request import SubmitRequest
from producer.times import MAX_SECONDS, parse_duration
from producer.uploads import files
from producer.uploads.files import FileView
from producer.uploads.intake import opening, refused_batches
from producer.uploads.intake.failing import MAX_INPUT_ERRORS, input_error
from producer.uploads.intake.immediate_reading import is_immediate
from producer.uploads.intake.intake import Intake
from producer.uploads.intake.opening import OpenedBatch
from producer.uploads.intake.read_request import ReadRequest
from producer.uploads.intake.refused_batches import BatchOrder, Refusal

REPEAT_SECONDS = 120.0
FIRST = "first"  # in place of the id of a batch before
PARAMETERS_OF_KEYS = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "stop": "stop_strings",
    "response_format": "output_schema",
}
OWN_PARAMETERS = "parameters"  # of the endpoints whose bodies have the task's own
MODEL_NOT_FOUND, EMPTY_FILE = "model_not_found", "empty_file"

# The last batch of the same request, which its key tells; a cancelled one may be wanted again at once.
SELECT_LAST_TWIN = """
SELECT id, CASE WHEN created_at > {earlier} AND status NOT IN ('cancelling', 'cancelled', 'deleting')
                THEN 1 ELSE 0 END AS is_repeat
FROM batches WHERE input_file_id = :file_id AND tenant = :tenant AND idempotency_key LIKE :keys
ORDER BY created_at DESC, id DESC LIMIT 1
"""


def create_batch(intake: Intake, order: BatchOrder) -> OpenedBatch:
    """Create a batch for a file, or return the one that this request repeats.

    The batch of a file that can't be read is created too, and has failed.

    Raises NotFound for the file of another tenant, UsageError that names the wrong field, and IdempotencyConflict.

    intake: reads a small file at once
    """
    database = intake.database
    endpoint = find_endpoint(order.endpoint)
    if endpoint is None:
        raise invalid(
            "endpoint", f"there is no endpoint {order.endpoint[:80]!r} for batches; use {', '.join(ENDPOINTS)}"
        )
    _check_window(order.completion_window)
    replace(order.submit_options, idempotency_key=order.idempotency_key).check()
    file = files.get_file(database, order.input_file_id, order.tenant, "input_file_id")
    files.check_input(file, "input_file_id")
    key = order.idempotency_key
    if key is None:
        prefix = _repeat_key_prefix(order)
        twin_id, is_repeat = _find_last_twin(database, order, prefix)
        if twin_id is not None and is_repeat:
            return OpenedBatch(twin_id, existed=True)
        key = f"{prefix}{twin_id or FIRST}"
    return _Creation(intake, order, endpoint, file, key).run()


@dataclass(frozen=True)
class _Creation:
    """One try to create a batch."""

    intake: Intake
    order: BatchOrder
    endpoint: Endpoint
    file: FileView
    key: str

    def run(self) -> OpenedBatch:
        """Open the batch, and read a small file at once."""
        try:
            opened = self._open(*self._read_first_request())
        except Refusal as refusal:
            return refused_batches.create(self.intake.database, self.order, self.key, refusal)
        if opened.submission is not None:
            self.intake.take_in(opened.id, opened.submission)  # what can't be read now waits for another process
        return opened

    def _open(self, pipeline: Pipeline, first: FirstRequest) -> OpenedBatch:
        intake, options = self.intake, self.order.submit_options
        read_request = ReadRequest(
            endpoint=self.endpoint.path,
            completion_window=self.order.completion_window,
            response_options=first.settings.options or None,
            on_invalid=options.on_invalid,
            max_failures=None if options.max_failures is None else str(options.max_failures),
            reuse=options.reuse,
        )
        is_small = is_immediate(intake.store, self.file.location or "", self.file.size_bytes or 0)
        try:
            request = self._make_request(pipeline, first)
            return opening.open_batch(
                intake.database, intake.settings, request, read_request, self.file, is_read_here=is_small
            )
        except (InvalidParameters, BodyError) as error:
            key = _find_key(first, str(error))
            param = error.param or ".".join(["body", *([] if key is None else [key])])
            errors = [input_error(error.code, _name_as_line(key, str(error)), first.line, param)]
            raise Refusal(pipeline.name, errors) from None

    def _read_first_request(self) -> tuple[Pipeline, FirstRequest]:
        name, location = self.file.id, self.file.location or ""
        try:
            self.intake.store.check_whole(location, self.file.size_bytes or 0)
            with self.intake.store.open(location) as stream:
                found = openai_lines.read_first_request(decompress(stream, name), name, self.endpoint)
        except UnreadableSource as error:
            raise Refusal(self.endpoint.pipeline, [input_error(error.code, str(error))]) from None
        if isinstance(found, list):
            raise Refusal(self.endpoint.pipeline, _describe_problems(found))
        try:
            pipeline = self.intake.catalogue[found.model]
        except (UnknownPipeline, SettingsError):
            message = f"there is no pipeline {found.model[:80]!r} here; list those that there are: GET /v1/models"
            param = "body.model" if self.endpoint.pipeline is None else "url"
            raise Refusal(found.model, [input_error(MODEL_NOT_FOUND, message, found.line, param)]) from None
        if not self.endpoint.takes_task(pipeline.task):
            endpoints = " or ".join(endpoints_of_task(pipeline.task, pipeline.name))
            message = f"{pipeline.name} is a pipeline for {pipeline.task}, which answers {endpoints}"
            raise Refusal(pipeline.name, [input_error("invalid_url", message, found.line, "url")])
        return pipeline, found

    def _make_request(self, pipeline: Pipeline, first: FirstRequest) -> SubmitRequest:
        parameters = self.endpoint.complete_parameters(pipeline.parameters, first.settings.parameters)
        return replace(self.order.submit_options, parameters=parameters, idempotency_key=self.key).request(pipeline)


def invalid(param: str, message: str) -> UsageError:
    """The error of one field of a request."""
    return UsageError(message, param=param)


def _find_key(first: FirstRequest, message: str) -> str | None:
    """The key of a body that a message about the task's parameters means; None = not known."""
    if OWN_PARAMETERS in first.raw_settings:
        return OWN_PARAMETERS
    return next((key for key in first.raw_settings if PARAMETERS_OF_KEYS.get(key, key) in message), None)


def _name_as_line(key: str | None, message: str) -> str:
    """The message with the name that the line has for a parameter."""
    parameter = PARAMETERS_OF_KEYS.get(key or "")
    return message if parameter is None else message.replace(f"parameter {parameter!r}", f"parameter {key!r}")


def _check_window(window: str) -> None:
    seconds = parse_duration(window)
    if seconds is None:
        raise invalid("completion_window", "the completion_window is no duration; write one such as 24h")
    if not 0 < seconds <= MAX_SECONDS:
        raise invalid("completion_window", "the completion_window is out of range; use more than 0, at most ten years")


def _describe_problems(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    if not problems:
        return [input_error(EMPTY_FILE, "the file has no lines; write a request on each")]
    return [
        input_error(problem.code, problem.message, problem.location, problem.param)
        for problem in problems[:MAX_INPUT_ERRORS]
    ]


def _find_last_twin(database: Database, order: BatchOrder, key_prefix: str) -> tuple[str | None, bool]:
    """The last batch that was asked for in the same way, and whether this request repeats it."""
    query = text(SELECT_LAST_TWIN.format(earlier=database.sql.now_plus_seconds))
    params = {
        "file_id": order.input_file_id,
        "tenant": order.tenant,
        "keys": f"{key_prefix}%",
        "seconds": -REPEAT_SECONDS,
    }
    with database.read() as connection:
        twin = connection.execute(query, params).one_or_none()
    return (None, False) if twin is None else (twin.id, bool(twin.is_repeat))


def _repeat_key_prefix(order: BatchOrder) -> str:
    """How the idempotency keys of the same request begin; the id of the batch before it follows."""
    texts = [sorted(values.items()) for values in (order.metadata, order.options)]
    values = [order.input_file_id, order.endpoint, order.completion_window, *texts]
    return f"openai-{hashlib.sha256(to_json(values).encode()).hexdigest()}-"
