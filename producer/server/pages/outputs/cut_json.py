"""Reads JSON that was cut somewhere, as far as it goes. Pure."""

import json
import re
from typing import Any

CLOSING = {"{": "}", "[": "]"}
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],]|"', re.DOTALL)  # the last is a text without its end
HALF_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,3})?$")


class Unreadable(ValueError):
    """The text is no JSON, or is nested too deep to be read."""


def read_json(text: str) -> Any:
    """Return the document; raises Unreadable."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable from None


def read_cut_json(text: str) -> Any:
    """Return what a document has before the place where it was cut; raises Unreadable."""
    for candidate in _completions(text):
        try:
            return read_json(candidate)
        except Unreadable:
            continue
    raise Unreadable


def _completions(text: str) -> tuple[str, str]:
    """Return the text with its last value and brackets closed, and the same of the text before its last comma."""
    open_brackets: list[str] = []
    comma, closing_at_comma, tail = 0, "", text
    for token in TOKEN.finditer(text):
        sign = token[0]
        if sign in CLOSING:
            open_brackets.append(CLOSING[sign])
        elif sign in "}]" and open_brackets:
            open_brackets.pop()
        elif sign == ",":
            comma, closing_at_comma = token.start(), "".join(reversed(open_brackets))
        elif sign == '"':
            tail = HALF_ESCAPE.sub("", text) + '"'
            break
    return tail + "".join(reversed(open_brackets)), text[:comma] + closing_at_comma
