"""Submissions over HTTP: rows as JSON lines, files as they are, and sources that the server has."""

import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from models.documents import to_json
from models.errors import BatchmillError, InvalidRows, UsageError
from models.states import BatchStatus
from producer.batches import polling
from producer.readers.column_mapping import NO_MAPPING
from producer.readers.input_source import PythonSource
from producer.remote.errors import make_error
from producer.remote.http import ServerHttp, Upload
from producer.remote.pages import NDJSON, restate_rows
from producer.remote.sending import columns, inputs
from producer.remote.sending.files import open_files
from producer.submission.options import SubmitOptions
from producer.times import Deadline

PATH = "/api/batches"
WAIT_SECONDS = 20.0  # in the first request, for small sources
MEDIA_TYPES = {
    "jsonl": NDJSON,
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "parquet": "application/vnd.apache.parquet",
    "text": "text/plain",
}

Document = dict[str, Any]


def submit(http: ServerHttp, pipeline: str, source: PythonSource, options: SubmitOptions) -> Document:
    """Submit one batch, and return its document once all its rows were read.

    A request that is sent again has the same idempotency key, so that it is the same batch.
    """
    # With the caller's own key the deadline may have passed when a submission is repeated; the server then checks it.
    fields = _fields(pipeline, source, options)
    _check(options)
    find_fields = partial(columns.find_fields, http, pipeline)
    own_key = options.idempotency_key
    headers = {"idempotency-key": secrets.token_hex(16) if own_key is None else own_key}
    with ExitStack() as cleanup:
        if source.inputs is not None:
            records = inputs.InputRecords(source.inputs, source.ids, options, find_fields)
            cleanup.enter_context(restate_rows(records.name, records.restate))
            file = cleanup.enter_context(inputs.spool())
            inputs.write_lines(file, records)
            fields |= {"id_column": records.id_column or fields["id_column"], "file_format": "jsonl"}
            document = _send(http, fields, headers, Upload(file, NDJSON))
        elif source.files is not None:
            body = cleanup.enter_context(open_files(source, options, find_fields))
            cleanup.enter_context(restate_rows(body.name, body.restate))
            fields |= {"file_format": body.file_format, "column_names": body.column_names}
            document = _send(http, fields, headers, Upload(body.file, MEDIA_TYPES[body.file_format]))
        else:
            document = _send(http, fields, headers, None)
        if own_key is None:  # the batch existed only because the client sent it again
            document = {**document, "already_submitted": False}
        return _wait_until_read(http, document)


def _check(options: SubmitOptions) -> None:
    """Raise UsageError for options that are wrong whatever the pipeline is, or that HTTP can't carry."""
    options.check()
    key = options.idempotency_key
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise UsageError("over HTTP an idempotency key is a header; use ASCII letters, digits and signs in one line")


def _fields(pipeline: str, source: PythonSource, options: SubmitOptions) -> Document:
    """The options as the server takes them, without those that are not set."""
    fields: Document = {
        "pipeline": pipeline,
        "parameters": options.parameters,
        "name": options.name,
        "metadata": options.metadata,
        "priority": options.priority or None,
        "on_invalid": options.on_invalid if options.on_invalid != "reject" else None,
        "deadline": options.deadline,
        "max_failures": options.max_failures,
        "input_columns": options.input_columns and _text_names(options.input_columns),
        "id_column": None if options.id_column is None else str(options.id_column),
        "passthrough": [str(name) for name in options.passthrough_columns()] or None,
        "reuse": options.reuse or None,
        "webhook_url": options.webhook_url,
        "tenant": options.tenant,
        "sql": source.sql,
        "bind": source.bind or None,
    }
    if options.deadline is not None:
        parse = Deadline.parse_future if options.idempotency_key is None else Deadline.parse
        fields["deadline"] = parse(options.deadline).as_text()
    if (selection := source.selection) is not None:
        fields |= {
            "from_batch": selection.batch_id,
            "status": [outcome.value for outcome in selection.statuses],
            "labels": list(selection.labels) or None,
            "min_score": selection.min_score,
        }
    return fields


def _text_names(names: object) -> dict[str, str]:
    if not isinstance(names, Mapping):
        raise UsageError(NO_MAPPING)
    return {str(field): str(column) for field, column in names.items()}


def _send(http: ServerHttp, fields: Document, headers: Mapping[str, str], upload: Upload | None) -> Document:
    """Send the request; options stand beside the rows in a form, because logs of proxies have addresses."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        texts = {name: _as_text(value) for name, value in given.items()}
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("an option has half a surrogate pair, which no database stores") from None
    except (TypeError, ValueError, RecursionError):
        raise UsageError("an option has a value that JSON has not; give texts, numbers, lists and objects") from None
    params = {"wait": WAIT_SECONDS}
    document: Document
    if upload is None:
        _, document = http.request("POST", PATH, params, json=given, headers=headers)
    else:
        _, document = http.request("POST", PATH, params, upload=upload, form=texts, headers=headers)
    return document


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def _wait_until_read(http: ServerHttp, document: Document) -> Document:
    """Return the batch once it was accepted; if its rows refuse it, delete it and raise the error that names them."""
    batch_id, first = document["id"], document
    while document["status"] == BatchStatus.VALIDATING:
        document = http.get(f"{PATH}/{batch_id}/wait", {"timeout": WAIT_SECONDS, "after_status": "validating"})
    for pause in polling.poll_intervals():
        if not document["ingesting"]:
            break
        http.pause(pause)
        document = http.get(f"{PATH}/{batch_id}")
    has_jobs = document["request_counts"]["total"] > 0
    if document["status"] == BatchStatus.FAILED and document["input_errors"] and not has_jobs:
        http.request("DELETE", f"{PATH}/{batch_id}")
        raise _refusal(document)
    return {**document, "warning": first.get("warning"), "already_submitted": first.get("already_submitted")}


def _refusal(document: Document) -> BatchmillError:
    code, errors = document["error_code"], document["input_errors"]
    if code == InvalidRows.code:
        lines = (f"line {error['line']}: {error['message']}" if error["line"] else error["message"] for error in errors)
        return InvalidRows("the file", list(lines))
    return make_error(code, document["error_message"] or errors[0]["message"], UsageError)
