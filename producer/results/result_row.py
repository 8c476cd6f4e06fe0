"""One result as a row and as a line of JSON."""

import json
import re
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from models import vectors
from models.documents import format_timestamp, from_json
from models.pipelines.pipeline import join_revisions
from models.privacy.folders import last_part
from models.states import JobOutcome

LINE_SEPARATORS = ("\x85", "\u2028", "\u2029")  # those that JSON need not escape
NON_ASCII = re.compile(r"[^\x00-\x7f]")


class ResultRow(NamedTuple):
    """The result of one job and the model that produced it.

    Documents stay JSON text until they are read, because most exports only copy them; `output` is None unless the job
    succeeded.
    """

    batch_id: str
    position: int  # in the source, from 0
    custom_id: str | None
    input_json: str
    status: JobOutcome
    output_json: str | None
    error_code: str | None
    error_message: str | None
    truncated: bool  # the text was cut because it was longer than the model accepts
    model: str | None
    revision: str | None
    dtype: str | None
    device: str | None
    attempts: int
    seq: int  # the order in which results landed, from 1
    finished_at: datetime
    passthrough_json: str | None = None  # columns of the source that are returned with the result
    reused_from: str | None = None  # the earlier batch that computed a reused result
    windows: int | None = None  # in which the model read the text; None = no model read it
    guards_json: str | None = None  # the verdicts of the guards; None = no guard read it
    original_input_json: str | None = None  # as submitted, if a guard redacted the input and keeps the original
    vector: bytes | None = None  # the output, if it is a vector: see `models/vectors.py`; `output_json` is None then
    source_batch_id: str | None = None  # the batch whose result the input was taken from; None = it was submitted
    source_position: int | None = None  # the position of its job there
    adapter: str | None = None  # the LoRA adapter on top of the model
    adapter_revision: str | None = None
    input_tokens: int | None = None  # of the input, in all windows; None = no model read it, or it was not counted
    output_tokens: int | None = None  # that were generated; None = the task generates nothing, or as before
    finish_reason: str | None = None  # how a generated text ended, see `FinishReason`

    @property
    def input(self) -> dict[str, Any]:
        """The job's input by field."""
        document: dict[str, Any] = from_json(self.input_json)
        return document

    @property
    def output(self) -> Any:
        """The model's output, as `pipeline(...)` returns it."""
        if self.vector is not None:
            return vectors.to_numbers(self.vector)
        return None if self.output_json is None else from_json(self.output_json)

    @property
    def output_text(self) -> str | None:
        """The output as JSON, also if it is a vector."""
        return self.output_json if self.vector is None else vectors.vector_json(self.vector)

    @property
    def content_revision(self) -> str | None:
        """The revisions of the model and of its adapter as one, as batches and tables have them."""
        return None if self.revision is None else join_revisions(self.revision, self.adapter_revision)

    @property
    def passthrough(self) -> dict[str, Any] | None:
        """The columns of the source that were kept."""
        return None if self.passthrough_json is None else from_json(self.passthrough_json)

    @property
    def guards(self) -> list[dict[str, Any]] | None:
        """The verdicts of the guards, in the order in which they ran; None without any."""
        return None if self.guards_json is None else from_json(self.guards_json)

    @property
    def original_input(self) -> dict[str, Any] | None:
        """The input as it was submitted; None unless a guard redacted it and keeps the original."""
        return None if self.original_input_json is None else from_json(self.original_input_json)

    @property
    def documents_length(self) -> int:
        """The number of characters of all documents, and of the vector's bytes."""
        return (
            len(self.input_json)
            + len(self.output_json or "")
            + len(self.vector or b"")
            + len(self.passthrough_json or "")
            + len(self.original_input_json or "")
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that is printed and exported, with times as ISO 8601 in UTC; its keys are stable."""
        document: dict[str, Any] = json.loads(self.json_line())
        return document

    def json_line(self, *, ascii_only: bool = False) -> str:
        """Return the object of `as_dict` as a line of JSON, with its newline.

        The text is put together by hand, because a generic encoder takes longer than the query.
        """
        line = (
            f'{{"batch_id": {_quote(self.batch_id)}, "position": {self.position}, '
            f'"custom_id": {_quote(self.custom_id)}, "input": {self.input_json}, '
            f'"passthrough": {self.passthrough_json or "null"}, "status": "{self.status.value}", '
            f'"output": {self.output_text or "null"}, "error_code": {_quote(self.error_code)}, '
            f'"error_message": {_quote(self.error_message)}, "truncated": {"true" if self.truncated else "false"}, '
            f"{_version_part(self.model, self.revision, self.dtype, self.device)}, "
            f'"attempts": {self.attempts}, "seq": {self.seq}, "finished_at": {_time_part(self.finished_at)}, '
            f'"reused_from": {_quote(self.reused_from)}, '
            f'"windows": {"null" if self.windows is None else self.windows}, "guards": {self.guards_json or "null"}, '
            f'"original_input": {self.original_input_json or "null"}, '
            f'"source_batch_id": {_quote(self.source_batch_id)}, '
            f'"source_position": {"null" if self.source_position is None else self.source_position}, '
            f"{_adapter_part(self.adapter, self.adapter_revision)}, "
            f'"input_tokens": {"null" if self.input_tokens is None else self.input_tokens}, '
            f'"output_tokens": {"null" if self.output_tokens is None else self.output_tokens}, '
            f'"finish_reason": {_quote(self.finish_reason)}}}\n'
        )
        return NON_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], line) if ascii_only else line


def without_folders(row: ResultRow) -> ResultRow:
    """Return the row for readers who see no folders of the operator's machines."""
    model, adapter = (None if name is None else last_part(name) for name in (row.model, row.adapter))
    return row._replace(model=model, adapter=adapter)


def escape_line_separators(line: str) -> str:
    """Return a line of JSON without characters at which some clients end a line, as Python's `splitlines` does."""
    if not line.isascii():
        for separator in LINE_SEPARATORS:
            line = line.replace(separator, f"\\u{ord(separator):04x}")
    return line


# Parts that hardly change from row to row; quoting them each time takes a quarter of the time.
@lru_cache(maxsize=64)
def _version_part(model: str | None, revision: str | None, dtype: str | None, device: str | None) -> str:
    quoted = _quote(model), _quote(revision), _quote(dtype), _quote(device)
    return '"model": {}, "revision": {}, "dtype": {}, "device": {}'.format(*quoted)


@lru_cache(maxsize=64)
def _adapter_part(adapter: str | None, revision: str | None) -> str:
    return f'"adapter": {_quote(adapter)}, "adapter_revision": {_quote(revision)}'


@lru_cache(maxsize=64)
def _time_part(timestamp: datetime) -> str:
    return f'"{format_timestamp(timestamp)}"'


def _quote(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)
