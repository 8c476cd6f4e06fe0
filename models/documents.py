"""JSON encoding and decoding of documents for both databases."""

import json
from datetime import UTC, datetime
from typing import Any

# Built once: json.dumps with options builds an encoder on each call, which takes as long as a short document.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder()


def to_json(value: Any) -> str:
    """Encode a document as JSON without ASCII escapes; raises ValueError on NaN."""
    return _ENCODER.encode(value)


def format_timestamp(timestamp: datetime) -> str:
    """Return a time as it stands in JSON: ISO 8601 in UTC, to the millisecond, which both databases store."""
    if timestamp.tzinfo is not UTC:  # the check and the slice halve the time, which exports notice
        timestamp = timestamp.astimezone(UTC)
    return f"{timestamp.isoformat(timespec='milliseconds')[:23]}Z"


def from_json(document: str | bytes) -> Any:
    """Decode a document from the database: JSON without leading blanks, in UTF-8 if it is bytes."""
    # json.loads detects the encoding and skips blanks, which takes longer than parsing a short document.
    return _DECODER.raw_decode(document if isinstance(document, str) else str(document, "utf-8"))[0]
