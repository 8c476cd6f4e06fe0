"""Outputs as JSON text that both databases store."""

import re
from typing import Any

from models.documents import to_json
from models.errors import JobError

NUL = "\\u0000"
# An even number of backslashes before `u0000` is text that spells the escape out, which is allowed.
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def to_valid_json(output: Any) -> str:
    """The output as JSON. Raises JobError where a database would not store it."""
    try:
        document = to_json(output)
    except ValueError:
        raise _invalid_text() from None
    return check_json(document)


def check_json(document: str) -> str:
    """The document, which `to_json` or an equal encoder made. Raises JobError where a database would not store it."""
    if not document.isascii():
        try:
            document.encode()
        except ValueError:  # half of a surrogate pair
            raise _invalid_text() from None
    if NUL in document and ESCAPED_NUL.search(document):
        raise JobError("invalid_output", "the model gave a NUL character, which no database stores")
    return document


def _invalid_text() -> JobError:
    return JobError("invalid_output", "the model gave an output that is not valid JSON text")
