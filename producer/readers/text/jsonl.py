"""JSON lines have one text or object on each line."""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from models.errors import UnreadableSource
from producer.readers.limits import MAX_ROW_BYTES, ROW_TOO_LARGE, ROW_TOO_LONG_MESSAGE, Meter
from producer.readers.rows import Problem
from producer.readers.text import text_lines

ARRAY_MESSAGE = "is one JSON array, not JSON lines; write each element on its own line: jq -c '.[]' FILE > FILE.jsonl"

# The memory of a line: itself, its decoded text and the texts in it are three times its length. To that add each key
# with its entry in a dictionary, each object or list, and each value with its place in a list.
KEY_BYTES, CONTAINER_BYTES, VALUE_BYTES = 240, 72, 40
SEPARATOR_BYTES = {ord(":"): KEY_BYTES, ord(","): VALUE_BYTES}  # between two strings
MIN_CHECKED_BYTES = 2**16  # a shorter line is below the limit, whatever its content
MAX_LINE_MEMORY_BYTES = 3 * MAX_ROW_BYTES + 2 * 2**20
TOO_MANY_VALUES_MESSAGE = (
    f"has keys and values that take more than {MAX_LINE_MEMORY_BYTES // 2**20} MiB in memory; "
    "leave some out, or split it"
)
LINE_ADVICE: dict[type, str] = {
    json.JSONDecodeError: "; write one object a line",
    RecursionError: "; an input is an object of texts",
}
BLANK_CHARACTERS = (" ", "\t", "\r", "\n")
BLANK_RUN = re.compile(r"[ \t\r\n]*")
JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class _RejectedJson(ValueError):
    """JSON that the standard or Python allows, and Batchmill does not."""


def read_records(stream: BinaryIO, name: str, meter: Meter | None = None) -> Iterator[tuple[int, object] | Problem]:
    """Each line's number and value; blank lines are skipped."""
    is_first = True
    for number, line in text_lines.read_lines(stream, name, meter, skip_blank=True):
        if not line or line.isspace():  # nothing but a byte-order mark, or blanks
            continue
        record = _parse_line(number, line)
        if is_first and line[:1024].lstrip().startswith(b"[") and not _is_chat(record):
            raise UnreadableSource(f"{name} {ARRAY_MESSAGE}")
        is_first = False
        del line  # a large one must not be in memory together with the next
        yield record
        del record


def _is_chat(record: tuple[int, object] | Problem) -> bool:
    """Whether the line's array is an input: the messages of a chat."""
    value = record[1]
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and "role" in item for item in value)


def parse_json(text: str | bytes) -> object:
    """One JSON document, with the same rules as a line; raises ValueError with a reason that quotes at most a key."""
    if _has_too_many_values(text if isinstance(text, bytes) else text.encode()):
        raise ValueError(TOO_MANY_VALUES_MESSAGE)
    try:
        return _decode(text if isinstance(text, str) else text.decode())
    except UnicodeDecodeError:
        reason = "is not UTF-8"
    except (ValueError, RecursionError) as error:
        reason = _reason(error)
    raise ValueError(reason)


def _parse_line(number: int, line: bytes) -> tuple[int, object] | Problem:
    if too_large := _too_large_reason(line):
        return Problem(number, too_large, ROW_TOO_LARGE, raw_input=text_lines.keep_line(line))
    try:
        return number, _decode(line.decode())
    except UnicodeDecodeError as error:
        message = text_lines.not_utf8_message(error)
    except (ValueError, RecursionError) as error:
        message = _reason(error) + LINE_ADVICE.get(type(error), "")
    return Problem(number, message, raw_input=text_lines.keep_line(line))


def _reason(error: ValueError | RecursionError) -> str:
    """Why a text is no JSON that is taken."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON at character {error.pos + 1}: {error.msg}"
    if isinstance(error, _RejectedJson):
        return str(error)
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return "has a number of thousands of digits; write it as text"  # Python's limit on the digits of an integer


def _too_large_reason(line: bytes) -> str | None:
    """The reason why a line can't be read in bounded memory; None if it can."""
    if len(line) > MAX_ROW_BYTES:
        return ROW_TOO_LONG_MESSAGE
    if text_lines.is_too_long_decoded(line):
        return text_lines.DECODED_TOO_LONG_MESSAGE
    return TOO_MANY_VALUES_MESSAGE if _has_too_many_values(line) else None


def _has_too_many_values(line: bytes) -> bool:
    """Whether a line with its keys and values takes more than MAX_LINE_MEMORY_BYTES."""
    if len(line) < MIN_CHECKED_BYTES:
        return False
    available = MAX_LINE_MEMORY_BYTES - 3 * len(line)
    if _value_memory_bytes(line, 0, len(line)) <= available:
        return False
    # Texts may contain as many commas; they are excluded only if that matters, because it takes longer.
    start = 0
    for match in JSON_STRING.finditer(line):
        available -= _value_memory_bytes(line, start, match.start())
        start = match.end()
        if available < 0:
            return True
    return _value_memory_bytes(line, start, len(line)) > available


def _value_memory_bytes(line: bytes, start: int, end: int) -> int:
    if end - start == 1:
        return SEPARATOR_BYTES.get(line[start], 0)
    containers = line.count(b"{", start, end) + line.count(b"[", start, end)
    keys, values = line.count(b":", start, end), line.count(b",", start, end)
    return KEY_BYTES * keys + CONTAINER_BYTES * containers + VALUE_BYTES * values


def _object_from_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RejectedJson(f"names {repeated[:40]!r} twice; remove one")
    return record


def _reject_constant(name: str) -> NoReturn:
    raise _RejectedJson(f"has {name}, which is not JSON; write null or leave it out")


# Created once, because json.loads builds a decoder for every call that has a hook.
_DECODER = json.JSONDecoder(object_pairs_hook=_object_from_pairs, parse_constant=_reject_constant)


def _decode(text: str) -> object:
    value, end = _DECODER.raw_decode(text, _skip_blanks(text, 0))
    if _skip_blanks(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _skip_blanks(text: str, start: int) -> int:
    # Stripping the text would copy a line that may be large.
    if text[start : start + 1] not in BLANK_CHARACTERS:
        return start
    blanks = BLANK_RUN.match(text, start)
    return start if blanks is None else blanks.end()
