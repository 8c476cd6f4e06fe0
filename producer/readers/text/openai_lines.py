"""Lines of an OpenAI batch file: `{"custom_id", "method", "url", "body"}` on each. Pure, apart from reading the stream.

A batch has one pipeline and one set of parameters, so all lines must name the same model and the same settings as the
first one that can be read. Only their input may differ.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from models.errors import JobError, Unreachable, UnreadableSource
from models.foreign_errors import first_line
from models.tasks.fields import describe_type
from producer.endpoints import BodyError, Endpoint
from producer.endpoints.endpoint import MODEL, Settings
from producer.readers.column_mapping import MAX_COLUMNS_LISTED, parse_custom_id
from producer.readers.limits import DEFAULT_LIMITS, Limits, Meter
from producer.readers.rows import Problem, Row, Source, unexpected_problem
from producer.readers.text import jsonl

METHOD = "POST"
# For the first request, before a file is refused. It is looked for in the thread of an HTTP request.
MAX_LINES_TRIED = 100
MAX_LINES_READ = 10_000  # with blank ones
MAX_BYTES_READ = 64 * 2**20  # unpacked
MAX_MODEL_CHARACTERS = 200
MAX_QUOTED_CHARACTERS = 40
UNIT = "line"

INVALID_JSON = "invalid_json_line"
MISSING_PARAMETER = "missing_required_parameter"


class FirstRequest(NamedTuple):
    """What the first readable line asks for, and with it all others.

    line: its number
    model: the name of a pipeline
    raw_settings: the keys of its body besides the input, as they are compared
    """

    line: int
    model: str
    raw_settings: dict[str, Any]
    settings: Settings


@dataclass(frozen=True, slots=True)
class LineRules:
    """What all lines of a file must have in common.

    model: the name of the pipeline
    raw_settings: the keys of a body besides the input
    first_line: the line that they are taken from
    fields: the names of the task's fields, for an endpoint whose body is the task's own input
    """

    endpoint: Endpoint
    model: str
    raw_settings: Mapping[str, Any] = field(default_factory=dict)
    first_line: int = 1
    fields: frozenset[str] = frozenset()


class _FirstLinesMeter(Meter):
    """Ends the search for the first request."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = 0

    def add(self, byte_count: int, location: str) -> None:
        """Count the bytes of a line, or of a part of one; raises UnreadableSource beyond the limits."""
        self._lines += 1
        self.total_bytes += byte_count
        if self._lines > MAX_LINES_READ or self.total_bytes > MAX_BYTES_READ:
            raise UnreadableSource(f"{location}: no request comes before this line; leave out blank and wrong lines")


def read_first_request(stream: BinaryIO, name: str, endpoint: Endpoint) -> FirstRequest | list[Problem]:
    """Return the request of the first line that can be read, or the problems of all that were tried.

    Raises UnreadableSource if the stream is no UTF-8 text, or has no request near its beginning.
    """
    problems = []
    for record in islice(jsonl.read_records(stream, name, _FirstLinesMeter()), MAX_LINES_TRIED):
        if isinstance(record, Problem):
            problems.append(_unreadable_line(record))
            continue
        try:
            return _read_request(*record, endpoint)
        except JobError as error:
            problems.append(_problem(*record, error))
    return problems


def open_lines(
    stream: BinaryIO, name: str, endpoint: Endpoint, fields: Iterable[str] = (), limits: Limits = DEFAULT_LIMITS
) -> Source:
    """The rows of a stream, which the caller closes; reading them raises UnreadableSource and SourceTooLarge.

    fields: the names of the inputs of the pipeline's task
    """
    rows = read_rows(stream, name, endpoint, fields, Meter(limits))
    return Source(name, UNIT, rows, ((name, UNIT),), limits, endpoint.input_param)


def read_rows(
    stream: BinaryIO, name: str, endpoint: Endpoint, fields: Iterable[str] = (), meter: Meter | None = None
) -> Iterator[Row | Problem]:
    """The row of each line, or the reason why it can't be a job; the first readable line decides for all others."""
    rules, known_fields = None, frozenset(fields)
    for record in _read_records(stream, name, meter):
        if isinstance(record, Problem):
            yield _unreadable_line(record)
            continue
        try:
            if rules is None:
                first = _read_request(*record, endpoint)
                rules = LineRules(endpoint, first.model, first.raw_settings, first.line, known_fields)
        except JobError as error:
            yield _problem(*record, error)
        else:
            yield read_row(*record, rules)
        del record


def read_row(line: int, value: object, rules: LineRules) -> Row | Problem:
    """The row of one line's value, or the reason why it can't be a job."""
    try:
        body = _read_envelope(value, rules.endpoint)
        custom_id = _read_custom_id(value)
        _check_model(body, rules)
        settings = rules.endpoint.settings_of(body)
        if settings != rules.raw_settings:
            _explain_settings(settings, rules)
        job_input = rules.endpoint.read_input(body)
        if rules.endpoint.input_keys is None:
            _check_fields(job_input, rules.fields)
        return Row(line, custom_id, job_input)
    except JobError as error:
        return _problem(line, value, error)
    except Exception as error:
        return unexpected_problem(line, error)


def _read_records(stream: BinaryIO, name: str, meter: Meter | None) -> Iterator[tuple[int, object] | Problem]:
    try:
        yield from jsonl.read_records(stream, name, meter)
    except OSError as error:
        raise Unreachable(f"{name} broke off while it was read: {error.strerror or first_line(error)}") from error


def _read_request(line: int, value: object, endpoint: Endpoint) -> FirstRequest:
    body = _read_envelope(value, endpoint)
    model = _read_model(body, endpoint)
    raw_settings = endpoint.settings_of(body)
    return FirstRequest(line, model, raw_settings, endpoint.read_settings(raw_settings))


def _read_envelope(value: object, endpoint: Endpoint) -> Mapping[str, Any]:
    """The body of a line for an endpoint; raises JobError."""
    if not isinstance(value, dict):
        raise BodyError("invalid_request", f"is {describe_type(value)}, not an object; {_example(endpoint)}", None)
    for key in ("custom_id", "method", "url", "body"):
        if value.get(key) is None:
            raise BodyError(MISSING_PARAMETER, f"has no {key}; {_example(endpoint)}", key)
    if value["method"] != METHOD:
        raise BodyError("invalid_method", f"has another method than {METHOD}, the only one of a batch", "method")
    if value["url"] != endpoint.path:
        raise BodyError("invalid_url", f"has another url than the batch's endpoint, {endpoint.path}", "url")
    body = value["body"]
    if not isinstance(body, dict):
        raise BodyError("invalid_request", f"has {describe_type(body)} as its body, not an object", "body")
    return body


def _example(endpoint: Endpoint) -> str:
    return f'write {{"custom_id": "1", "method": "{METHOD}", "url": "{endpoint.path}", "body": {{…}}}}'


def _read_custom_id(value: Any) -> str:
    try:
        if not isinstance(value["custom_id"], str) or not value["custom_id"].strip():
            raise JobError("", "custom_id must be a text that is not blank")
        return parse_custom_id(value["custom_id"])
    except JobError as error:
        raise BodyError("invalid_custom_id", f"has an unusable custom_id: {error}", "custom_id") from None


def _read_model(body: Mapping[str, Any], endpoint: Endpoint) -> str:
    model = body.get(MODEL)
    if model is None and endpoint.pipeline is not None:
        return endpoint.pipeline
    if model is None:
        raise BodyError(
            MISSING_PARAMETER, "has no body.model; name a pipeline, as GET /v1/models lists them", "body.model"
        )
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_CHARACTERS:
        raise BodyError("invalid_parameter", "has no name of a pipeline in body.model", "body.model")
    if endpoint.pipeline is not None and model != endpoint.pipeline:
        raise BodyError("mismatched_model", f"names another model than its url, {endpoint.path}", "body.model")
    return model


def _check_model(body: Mapping[str, Any], rules: LineRules) -> None:
    if _read_model(body, rules.endpoint) != rules.model:
        raise BodyError(
            "mismatched_model",
            f"names another model than line {rules.first_line}, and a batch has one; put it into another file",
            "body.model",
        )


def _explain_settings(settings: Mapping[str, Any], rules: LineRules) -> None:
    """Raise BodyError for settings that are wrong, or other than the first line's."""
    rules.endpoint.read_settings(settings)
    differing = [key for key in {**rules.raw_settings, **settings} if settings.get(key) != rules.raw_settings.get(key)]
    key = differing[0] if differing else MODEL
    raise BodyError(
        "mismatched_parameter",
        f"has another {key} than line {rules.first_line}, and a batch has one set of parameters; "
        "put it into another file",
        f"body.{key}",
    )


def _check_fields(job_input: Mapping[str, Any], fields: frozenset[str]) -> None:
    unknown = next((key for key in job_input if key not in fields), None)
    if unknown is None:
        return
    names = ", ".join(sorted(fields)[:MAX_COLUMNS_LISTED])
    raise BodyError(
        "unknown_parameter",
        f"has {unknown[:MAX_QUOTED_CHARACTERS]!r} in its body, which is no input of this pipeline; it takes: {names}",
        f"body.{unknown[:MAX_QUOTED_CHARACTERS]}",
    )


def _problem(line: int, value: object, error: JobError) -> Problem:
    custom_id, body = None, None
    if isinstance(value, dict):
        body = value.get("body")
        try:
            custom_id = _read_custom_id(value)
        except (JobError, KeyError):
            custom_id = None
    return Problem(
        line,
        str(error),
        error.code,
        custom_id,
        raw_input=body if isinstance(body, dict) else None,
        param=getattr(error, "param", None),
    )


def _unreadable_line(problem: Problem) -> Problem:
    return problem._replace(code=INVALID_JSON) if problem.code == "invalid_row" else problem
