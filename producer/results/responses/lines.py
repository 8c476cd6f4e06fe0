"""One result as a line of an output or error file."""

from collections.abc import Mapping
from typing import Any

from models.documents import to_json
from models.states import JobOutcome
from producer.batches.views import BatchView
from producer.endpoints import Answer, Endpoint
from producer.endpoints.answer import quote
from producer.results.result_row import ResultRow, escape_line_separators, without_folders
from producer.tenants.principal import DEFAULT_TENANT

# As OpenAI calls what became of requests that were not run.
CODES = {"cancelled": "batch_cancelled", "deadline_exceeded": "batch_expired", "duplicate_id": "duplicate_custom_id"}
REQUEST_PREFIX = "batch_req_"


class LineWriter:
    """Writes the lines of one batch."""

    def __init__(self, batch: BatchView, endpoint: Endpoint) -> None:
        self._pipeline = batch.pipeline
        self._parameters = batch.parameters
        self._options: Mapping[str, Any] = batch.response_options
        self._endpoint = endpoint
        self._hides_folders = batch.tenant != DEFAULT_TENANT  # by the batch: a file is the same for all who read it
        self._id_start = f"{REQUEST_PREFIX}{batch.id.removeprefix('batch_')}_"
        self._versions: dict[tuple[str | None, ...], tuple[str, str]] = {}

    def line(self, row: ResultRow) -> str:
        """The line of a result, with its newline; put together by hand, as `ResultRow.json_line`."""
        request_id = f"{self._id_start}{row.position}"
        start = f'{{"id": "{request_id}", "custom_id": {_quote(row.custom_id)}, "response": '
        if row.status is not JobOutcome.SUCCEEDED:
            code = row.error_code or ""
            return escape_line_separators(
                f'{start}null, "error": {{"code": {quote(CODES.get(code, code))}, '
                f'"message": {quote(row.error_message or "")}}}}}\n'
            )
        fingerprint, computed_by = self._describe_version(row)
        answer = Answer(
            request_id,
            int(row.finished_at.timestamp()),
            self._pipeline,
            fingerprint,
            row.output_json,
            row.vector,
            self._parameters,
            self._options,
            row.input_tokens,
            row.output_tokens,
            row.finish_reason,
        )
        body = self._endpoint.write_body(answer)
        return escape_line_separators(
            f'{start}{{"status_code": 200, "request_id": "{request_id}", "body": {body}}}, '
            f'"error": null, "truncated": {"true" if row.truncated else "false"}, "computed_by": {computed_by}}}\n'
        )

    def _describe_version(self, row: ResultRow) -> tuple[str, str]:
        """The fingerprint of the model that computed a result, and a JSON object that describes it."""
        if self._hides_folders:
            row = without_folders(row)
        key = (row.model, row.revision, row.dtype, row.device, row.adapter, row.adapter_revision)
        known = self._versions.get(key)
        if known is None:
            names = ("model", "revision", "dtype", "device", "adapter", "adapter_revision")
            document = {"pipeline": self._pipeline, **dict(zip(names, key, strict=True))}
            known = self._versions[key] = (f"{row.model}@{row.content_revision}", to_json(document))
        return known


def _quote(text: str | None) -> str:
    return "null" if text is None else quote(text)
