"""Regular expressions of guards: RE2 compiles them, so each search takes linear time."""

import re
import time
from collections.abc import Iterator
from typing import Any

import re2

from models.guards.reading import NOTHING_CAUGHT, Reading, Span
from models.guards.spans import MAX_SPANS, Place, limit_places, merge_places

MAX_PROGRAM_BYTES = 4 << 20  # of RE2's program and its states
MAX_REPEATED_STATES = 800  # of the automaton, beyond what the pattern writes out; they take up to 4 µs for a character
MAX_SECONDS = 5.0  # of processor time for one text
MATCHES_PER_CHECK = 16
MAX_FRAGMENT_CHARACTERS = 8
_PROBE = b"a foo 1-A\n b"  # borders of words and lines of all kinds

# A class of characters, which compiles into up to hundreds of states: \pL, \w, [a-z], a dot, and letters beyond ASCII.
_CLASS = re.compile(
    r"\\[pPx]\{[^}]*\}|\\[pP].|\\.|\[\^?\]?(?:\\.|\[:\^?[a-z]+:\]|[^\]\\])*\]|\.|[^\x00-\x7f]", re.DOTALL
)

_LINEAR = "RE2 takes linear time and has no such thing"
_ADVICE = {
    "invalid perl operator: (?=": f"look-ahead is not supported: {_LINEAR}",
    "invalid perl operator: (?!": f"look-ahead is not supported: {_LINEAR}",
    "invalid perl operator: (?<": f"look-behind is not supported: {_LINEAR}",
    "invalid perl operator: (?P": f"back-references are not supported: {_LINEAR}",
    "invalid perl operator: (?>": "atomic groups are not supported; a plain group takes linear time anyway",
    "invalid perl operator: (?(": f"conditions are not supported: {_LINEAR}",
    "pattern too large": "its repetitions are too many; use smaller ones, or fewer of classes such as \\pL",
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
        spans = tuple([Span(start, end) for start, end in offsets])
        return Reading(caught=True, spans=spans) if spans else NOTHING_CAUGHT  # a match may be empty

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
    if "\\C" in _CLASS.findall(pattern):
        raise ValueError("pattern has \\C, which may match half a character; use (?s:.)")
    try:
        regex = re2.compile(pattern.encode(), _options())
    except UnicodeEncodeError:
        raise ValueError("pattern has half a surrogate pair; mend its encoding") from None
    except re2.error as error:
        raise ValueError(f"pattern is no regular expression of RE2: {_reason(error)}") from None
    if regex.fullmatch(b"") is not None:
        raise ValueError("pattern matches the empty text, so it would catch every row; ask for one character at least")
    if any(match.start() == match.end() for match in regex.finditer(_PROBE)):
        raise ValueError(
            "pattern matches places without characters, such as \\b alone, and would catch nothing there; "
            "ask for one character at least"
        )
    if _count_states(pattern) > MAX_REPEATED_STATES + 2 * len(pattern):
        raise ValueError(
            "pattern has too many repetitions; use smaller ones, or an open end such as {20,}, which is cheap"
        )
    return regex


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False  # RE2 writes them to stderr
    options.never_capture = True  # groups cost time, and nobody reads them
    options.max_mem = MAX_PROGRAM_BYTES
    return options


def _count_states(pattern: str) -> int:
    """States of the automaton if each class of characters is one letter: how many may be active at once."""
    try:
        return int(re2.compile(_CLASS.sub("x", pattern).encode("ascii", "ignore"), _options()).programsize)
    except re2.error:  # in what the substitution made of it
        return MAX_REPEATED_STATES


def _reason(error: Exception) -> str:
    raw = error.args[0]
    reason = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    for start, advice in _ADVICE.items():
        if reason.startswith(start):
            return advice
    escape = reason.removeprefix("invalid escape sequence: \\")
    if escape[:1].isdigit():
        return f"back-references are not supported: {_LINEAR}"
    kind, _, fragment = reason.partition(": ")  # a long fragment would print the pattern
    return reason if len(fragment) <= MAX_FRAGMENT_CHARACTERS else kind


def _character_offsets(data: bytes, matches: Iterator[Place]) -> Iterator[Place]:
    byte, character = 0, 0
    for start, end in matches:
        first = character + len(data[byte:start].decode())
        character = first + len(data[start:end].decode())
        byte = end
        yield first, character
