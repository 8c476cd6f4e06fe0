"""JSON documents, as both databases take them and give them back."""

import json
from typing import Any

# Made once: json.dumps builds an encoder for every call that has options, which takes as long as a short document.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER = json.JSONDecoder()


def to_json(value: Any) -> str:
    """A document as both databases take it: NaN is refused, text stays readable."""
    return _ENCODER.encode(value)


def from_json(document: str | bytes) -> Any:
    """A document as a database gives it back: JSON that starts with its value, in UTF-8 where it is bytes."""
    # json.loads would guess the encoding and look for blanks, which takes longer than to read a short document.
    return _DECODER.raw_decode(document if isinstance(document, str) else str(document, "utf-8"))[0]
