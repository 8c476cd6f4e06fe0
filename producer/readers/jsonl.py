"""JSON lines: one text or object a line."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

from models.errors import UnreadableSource
from producer.readers import lines
from producer.readers.rows import Problem

ARRAY = "is one JSON array, not JSON lines; write each element on its own line: jq -c '.[]' FILE > FILE.jsonl"


class _Refused(ValueError):
    """JSON that the standard's letter allows, or Python does, and we don't."""


def records(stream: BinaryIO, name: str) -> Iterator[tuple[int, object] | Problem]:
    """Each line's value with the line's number; blank lines are skipped."""
    first = True
    for number, line in lines.read(stream, name):
        if line.isspace():
            continue
        record = _record(number, line)
        if first and line.lstrip().startswith(b"[") and not _is_chat(record):
            raise UnreadableSource(f"{name} {ARRAY}")
        first = False
        yield record


def _is_chat(record: tuple[int, object] | Problem) -> bool:
    """Whether a line's array is an input by itself: the messages of a chat."""
    value = record[1]
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) and "role" in one for one in value)


def _record(number: int, line: bytes) -> tuple[int, object] | Problem:
    if len(line) > lines.LONGEST_LINE:
        return Problem(number, lines.TOO_LONG, lines.TOO_LARGE)
    try:
        return number, _decode(line.decode())
    except UnicodeDecodeError as error:
        return Problem(number, lines.not_utf8(error))
    except json.JSONDecodeError as error:
        return Problem(number, f"is not JSON at character {error.pos + 1}: {error.msg}; write one object a line")
    except _Refused as error:
        return Problem(number, str(error))
    except ValueError:  # Python's own bound on the digits of an integer
        return Problem(number, "has a number of thousands of digits; write it as text")
    except RecursionError:
        return Problem(number, "is nested too deeply; an input is an object of texts")


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


def _decode(line: str) -> object:
    text = line.strip(" \t\r\n")
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value
