"""JSON lines: one text or object a line."""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from models.errors import UnreadableSource
from producer.readers import text_lines
from producer.readers.limits import LONGEST_ROW, TOO_LARGE, TOO_LONG, Meter
from producer.readers.rows import Problem

ARRAY = "is one JSON array, not JSON lines; write each element on its own line: jq -c '.[]' FILE > FILE.jsonl"

# What a line takes in memory: itself, decoded, the texts in it, and beside these each key with its place in a
# dictionary, each object or list, and each value with its place in a list.
KEY_BYTES, CONTAINER_BYTES, VALUE_BYTES = 240, 72, 40
SEPARATORS = {ord(":"): KEY_BYTES, ord(","): VALUE_BYTES}  # where one stands alone
SHORT_LINE = 2**16  # takes less, whatever is in it
MOST_BYTES = 3 * LONGEST_ROW + 2 * 2**20
TOO_MANY = f"has keys and values that take more than {MOST_BYTES // 2**20} MiB in memory; leave some out, or split it"
BLANK = (" ", "\t", "\r", "\n")
BLANKS = re.compile(r"[ \t\r\n]*")
TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class _Refused(ValueError):
    """JSON that the standard's letter allows, or Python does, and we don't."""


def records(stream: BinaryIO, name: str, meter: Meter | None = None) -> Iterator[tuple[int, object] | Problem]:
    """Each line's value with the line's number; blank lines are skipped."""
    first = True
    for number, line in text_lines.read(stream, name, meter, passes_blank=True):
        if line.isspace():
            continue
        record = _record(number, line)
        if first and line[:1024].lstrip().startswith(b"[") and not _is_chat(record):
            raise UnreadableSource(f"{name} {ARRAY}")
        first = False
        del line  # a large one is not held beside the next
        yield record
        del record


def _is_chat(record: tuple[int, object] | Problem) -> bool:
    """Whether a line's array is an input by itself: the messages of a chat."""
    value = record[1]
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def _record(number: int, line: bytes) -> tuple[int, object] | Problem:
    if too_large := _too_large(line):
        return Problem(number, too_large, TOO_LARGE)
    try:
        return number, _decode(line.decode())
    except UnicodeDecodeError as error:
        return Problem(number, text_lines.not_utf8(error))
    except json.JSONDecodeError as error:
        return Problem(number, f"is not JSON at character {error.pos + 1}: {error.msg}; write one object a line")
    except _Refused as error:
        return Problem(number, str(error))
    except ValueError:  # Python's own bound on the digits of an integer
        return Problem(number, "has a number of thousands of digits; write it as text")
    except RecursionError:
        return Problem(number, "is nested too deeply; an input is an object of texts")


def _too_large(line: bytes) -> str | None:
    """Why a line can't be read in bounded memory; None where it can."""
    if len(line) > LONGEST_ROW:
        return TOO_LONG
    if text_lines.is_too_wide(line):
        return text_lines.TOO_WIDE
    return TOO_MANY if _has_too_many(line) else None


def _has_too_many(line: bytes) -> bool:
    """Whether a line takes more than MOST_BYTES for its keys and values."""
    if len(line) < SHORT_LINE:
        return False
    left = MOST_BYTES - 3 * len(line)
    if _value_bytes(line, 0, len(line)) <= left:
        return False
    # Its texts may have as many commas: they are left out only where that matters.
    place = 0
    for match in TEXTS.finditer(line):
        left -= _value_bytes(line, place, match.start())
        place = match.end()
        if left < 0:
            return True
    return _value_bytes(line, place, len(line)) > left


def _value_bytes(line: bytes, start: int, end: int) -> int:
    if end - start == 1:
        return SEPARATORS.get(line[start], 0)
    containers = line.count(b"{", start, end) + line.count(b"[", start, end)
    keys, values = line.count(b":", start, end), line.count(b",", start, end)
    return KEY_BYTES * keys + CONTAINER_BYTES * containers + VALUE_BYTES * values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"names {twice[:40]!r} twice; which one is meant?")
    return record


def _constant(name: str) -> NoReturn:
    raise _Refused(f"has {name}, which is no JSON; write null or leave it out")


# Made once: json.loads builds a decoder for every call that has a hook.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _decode(text: str) -> object:
    value, end = _DECODER.raw_decode(text, _after_blanks(text, 0))
    if _after_blanks(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def _after_blanks(text: str, start: int) -> int:
    # To strip it would copy a line that may be large.
    if text[start : start + 1] not in BLANK:
        return start
    blanks = BLANKS.match(text, start)
    return start if blanks is None else blanks.end()
