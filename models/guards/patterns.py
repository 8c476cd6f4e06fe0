"""Regular expressions of guards: RE2 compiles them, so each search takes linear time."""

import time
from collections.abc import Iterator
from typing import Any

import re2

from models.guards.reading import NOTHING_CAUGHT, Reading, Span
from models.guards.spans import MAX_SPANS, Place, limit_places, merge_places

MAX_PROGRAM_BYTES = 1 << 20  # of RE2's program and its states, which bounds the time for a character
MAX_SECONDS = 5.0  # of processor time for one text
MATCHES_PER_CHECK = 16

_ADVICE = {
    "invalid perl operator: (?=": "look-ahead is not supported: RE2 takes linear time and has no look-around",
    "invalid perl operator: (?!": "look-ahead is not supported: RE2 takes linear time and has no look-around",
    "invalid perl operator: (?<": "look-behind is not supported: RE2 takes linear time and has no look-around",
    "pattern too large": "it is too large: use smaller repetitions and fewer classes such as \\pL",
}


class PatternTimeout(Exception):
    """A pattern takes longer for one text than a guard may: many short matches, each after a long search."""


class PatternRule:
    """Every match of a regular expression is a span.

    regex: from `compile_pattern`.
    first_only: whether one match is enough, because the row is blocked anyway.
    """

    def __init__(self, regex: Any, first_only: bool = False) -> None:
        self._regex = regex
        self._first_only = first_only

    def read(self, text: str) -> Reading:
        """Find all matches, merged where they touch; raises PatternTimeout."""
        # Half a surrogate pair is no UTF-8; its stand-in is one character too, so offsets stay right.
        data = text.encode("utf-8", "replace")
        if self._regex.search(data) is None:
            return NOTHING_CAUGHT
        matches = limit_places(merge_places(self._matches(data)), len(data), 1 if self._first_only else MAX_SPANS)
        offsets = matches if text.isascii() else _character_offsets(data, matches)
        return Reading(caught=True, spans=tuple([Span(start, end) for start, end in offsets]))

    def _matches(self, data: bytes) -> Iterator[Place]:
        deadline = time.thread_time() + MAX_SECONDS
        for index, match in enumerate(self._regex.finditer(data)):
            if index % MATCHES_PER_CHECK == 0 and time.thread_time() > deadline:
                raise PatternTimeout
            start, end = match.span()
            if start < end:
                yield start, end


def compile_pattern(pattern: str) -> Any:
    """Compile a regular expression for searches in UTF-8; raises ValueError that says what is wrong in plain words."""
    options = re2.Options()
    options.log_errors = False  # RE2 writes them to stderr
    options.never_capture = True  # groups cost time, and nobody reads them
    options.max_mem = MAX_PROGRAM_BYTES
    try:
        regex = re2.compile(pattern.encode(), options)
    except UnicodeEncodeError:
        raise ValueError("pattern has half a surrogate pair; mend its encoding") from None
    except re2.error as error:
        raise ValueError(f"pattern is no regular expression of RE2: {_reason(error)}") from None
    if regex.fullmatch(b"") is not None:
        raise ValueError("pattern matches the empty text, so it would catch every row; ask for one character at least")
    return regex


def _reason(error: Exception) -> str:
    raw = error.args[0]
    reason = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    for start, advice in _ADVICE.items():
        if reason.startswith(start):
            return advice
    escape = reason.removeprefix("invalid escape sequence: \\")
    if escape[:1].isdigit():
        return "back-references are not supported: RE2 takes linear time"
    return reason


def _character_offsets(data: bytes, matches: Iterator[Place]) -> Iterator[Place]:
    byte, character = 0, 0
    for start, end in matches:
        first = character + len(data[byte:start].decode())
        character = first + len(data[start:end].decode())
        byte = end
        yield first, character
