"""Result rows for tests that read no database."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from models import vectors
from models.documents import to_json
from models.states import JobOutcome
from producer.results.result_row import ResultRow

FINISHED_AT = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)

FAILED_FIELDS: dict[str, Any] = {
    "status": JobOutcome.FAILED,
    "output": None,
    "error_code": "text_too_long",
    "error_message": "too long",
}


def result_row(position: int = 0, **fields: Any) -> ResultRow:
    """Return a succeeded row with these fields replaced."""
    usual: dict[str, Any] = {
        "batch_id": "batch_1",
        "position": position,
        "custom_id": None,
        "input": {"text": "good"},
        "status": JobOutcome.SUCCEEDED,
        "output": {"label": "POSITIVE", "score": 0.5},
        "error_code": None,
        "error_message": None,
        "truncated": False,
        "model": "m",
        "revision": "abc",
        "dtype": "float32",
        "device": "cpu",
        "attempts": 1,
        "seq": position + 1,
        "finished_at": FINISHED_AT,
    }
    values = usual | fields
    for name in ("input", "output", "passthrough", "guards", "original_input"):
        document = values.pop(name, None)
        values[f"{name}_json"] = None if document is None else to_json(document)
    return ResultRow(**values)


def vector_row(position: int, numbers: Sequence[float], **fields: Any) -> ResultRow:
    """Return a succeeded row whose output is a vector of these numbers."""
    return result_row(position, output=None, **fields)._replace(vector=vectors.from_numbers(numbers))
