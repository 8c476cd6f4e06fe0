import io
import json
import time
from collections.abc import Callable
from unittest.mock import ANY

import pytest

from models.errors import SourceTooLarge, UnreadableSource
from producer.readers import limits
from producer.readers.rows import Problem
from producer.readers.text import jsonl


def read(content: bytes) -> list[object]:
    return list(jsonl.read_records(io.BytesIO(content), "a.jsonl"))


def problem_message(content: bytes) -> str:
    (problem,) = read(content)
    assert isinstance(problem, Problem)
    return problem.message


def test_objects_and_bare_texts_with_their_lines() -> None:
    assert read(b'{"text": "a"}\n"b"\r\n\n  \n{"text": "c"}') == [(1, {"text": "a"}), (2, "b"), (5, {"text": "c"})]


def test_a_byte_order_mark_is_removed() -> None:
    assert read(b'\xef\xbb\xbf"a"\n"b"') == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c"])
def test_only_newlines_end_a_line(separator: str) -> None:
    content = json.dumps(f"a{separator}b", ensure_ascii=separator < " ").encode()

    assert read(content + b"\n") == [(1, f"a{separator}b")]


def test_an_empty_file_has_no_records() -> None:
    assert read(b"") == []
    assert read(b"\xef\xbb\xbf\n\n") == []


def test_an_invalid_line_does_not_affect_others() -> None:
    before, problem, after = read(b'"a"\n{oops}\n"c"\n')

    assert (before, after) == ((1, "a"), (3, "c"))
    assert isinstance(problem, Problem)
    assert problem.location == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "caf\xe9"}', "is not UTF-8 at byte 14 (0xe9)"),
        (b'{"text": "a", "text": "b"}', "names 'text' twice"),
        (b'{"a": {"b": 1, "b": 2}}', "names 'b' twice"),
        (b'{"text": NaN}', "has NaN"),
        (b"-Infinity", "has -Infinity"),
        (b'{"text": "a"', "is not JSON at character 13"),
        (b'{"text": "a"} {"text": "b"}', "Extra data"),
        (b"{'text': 'a'}", "is not JSON at character 2"),
        (b'"a\tb"', "Invalid control character"),
        (b'{"a":' + b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "thousands of digits"),
    ],
)
def test_the_problem_is_described(content: bytes, words: str) -> None:
    assert words in problem_message(content)


def test_no_message_quotes_the_text() -> None:
    for content in (b'{"text": "canary" oops', b'{"text": "canary\xff"}', b'{"text": NaN, "b": "canary"}'):
        assert "canary" not in problem_message(content)


def test_an_array_is_rejected() -> None:
    with pytest.raises(UnreadableSource, match=r"a\.jsonl is one JSON array.*jq"):
        read(b'\n [\n{"text": "a"}\n]')
    assert read(b'"a"\n["b"]') == [(1, "a"), (2, ["b"])]  # here only the row is invalid, which the task finds
    with pytest.raises(UnreadableSource, match="is one JSON array"):
        read(b'[{"text": "a"}]')


def test_a_line_may_be_the_messages_of_a_chat() -> None:
    assert read(b'[{"role": "user", "content": "Hi"}]') == [(1, [{"role": "user", "content": "Hi"}])]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"PK\x03\x04", "ZIP or Excel"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "old Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\xd8\xff\xe0", "an image"),
        (b"\x89PNG\r\n", "an image"),
        (b"PAR1\x15", "Parquet"),
        ("a".encode("utf-16"), "UTF-16"),
        ("a".encode("utf-32"), "UTF-32"),
        (b"SQLite format 3\0", "SQLite"),
    ],
)
def test_other_file_formats_are_recognised(start: bytes, words: str) -> None:
    with pytest.raises(UnreadableSource, match=words):
        read(start + b" more\n")


def test_a_truncated_gzip_is_recognised_as_well() -> None:
    with pytest.raises(UnreadableSource, match="compressed"):
        read(b"\x1f\x8b")


class Endless(io.RawIOBase):
    """A line without an end, which counts the bytes read."""

    bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        buffer[:] = b"x" * len(buffer)
        self.bytes_read += len(buffer)
        return len(buffer)


def test_an_endless_line_is_abandoned_early() -> None:
    endless = Endless()

    record = next(jsonl.read_records(io.BufferedReader(endless), "a.jsonl"))

    assert record == Problem(1, "is longer than 16 MiB; split it", "row_too_large", raw_input=ANY)
    assert endless.bytes_read <= limits.MAX_ROW_BYTES + 2**20


def test_a_huge_line_does_not_affect_others() -> None:
    assert read(b'"a"\n' + b"x" * (3 * limits.MAX_ROW_BYTES) + b'\n"b"\n') == [
        (1, "a"),
        Problem(2, "is longer than 16 MiB; split it", "row_too_large", raw_input=ANY),
        (3, "b"),
    ]


def test_a_line_of_the_maximum_length_is_read() -> None:
    text = "x" * (limits.MAX_ROW_BYTES - 3)

    assert read(f'"{text}"\n'.encode()) == [(1, text)]


MANY = 1_000_000


@pytest.mark.parametrize(
    "make_values",
    [
        lambda: ",".join(f'"k{number}":1' for number in range(MANY)),
        lambda: ",".join(f'"k{number}":1' for number in range(MANY)) + ',"k0":2',
        lambda: '"a":[' + ",".join(["{}"] * 4 * MANY) + "]",
        lambda: '"a":[' + ",".join(["[]"] * 4 * MANY) + "]",
        lambda: '"a":[' + ",".join(["1000"] * 2 * MANY) + "]",
        lambda: '"a":[' + '""' + ',"bc"' * 2 * MANY + "]",
    ],
    ids=["keys", "doubled keys", "objects", "lists", "numbers", "texts"],
)
def test_a_line_of_too_many_values_is_rejected_quickly(make_values: Callable[[], str]) -> None:
    content = b'"before"\n{"text":"x",' + make_values().encode() + b'}\n"after"\n'
    started = time.process_time()

    before, problem, after = read(content)

    assert (before, after) == ((1, "before"), (3, "after"))
    assert problem == Problem(2, jsonl.TOO_MANY_VALUES_MESSAGE, "row_too_large", raw_input=ANY)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("separator", [",", ":", "{", "[", '\\"', "\\\\", "\\u002c,"])
def test_separators_in_a_text_are_not_counted_as_values(separator: str) -> None:
    text = separator * (3_000_000 // len(separator))

    [(_, value)] = read(f'{{"text":"{text}"}}\n'.encode())

    assert value == {"text": json.loads(f'"{text}"')}


def test_a_line_that_one_wide_character_makes_too_large_is_rejected() -> None:
    line = '{"text": "a", "page": "' + "a" * 6 * 2**20 + '"}\n'

    assert read(line.encode() + line.replace("aa", "a\U0001f600", 1).encode())[1] == Problem(
        2, "is longer than 16 MiB once it is decoded; split it", "row_too_large", raw_input=ANY
    )


@pytest.mark.parametrize("blanks", [" ", "\t \r", " " * 1000])
def test_blanks_around_a_value_are_ignored(blanks: str) -> None:
    assert read(f'{blanks}"a"{blanks}\n'.encode()) == [(1, "a")]
    assert problem_message(f'{blanks}"a"{blanks}b\n'.encode()).startswith(
        f"is not JSON at character {len(blanks) + 4}:"
    )


def test_skipped_bytes_are_counted() -> None:
    content = b'"a"\n' + b"x" * 3 * limits.MAX_ROW_BYTES + b"\n"
    records = jsonl.read_records(
        io.BytesIO(content), "a.jsonl", limits.Meter(limits.Limits(max_source_bytes=20 * 2**20))
    )

    assert next(records) == (1, "a")
    assert next(records) == Problem(2, "is longer than 16 MiB; split it", "row_too_large", raw_input=ANY)
    with pytest.raises(SourceTooLarge, match=r"a\.jsonl, line 2: the source has more than"):
        next(records)


@pytest.mark.parametrize("empty_lines", [0, 1, 2, 10_000, 100_000])
def test_empty_lines_are_numbered(empty_lines: int) -> None:
    between = b"\n" * empty_lines
    source = io.BufferedReader(io.BytesIO(between + b'"a"\n' + between + b'"b"\n' + between))

    assert list(jsonl.read_records(source, "f")) == [(empty_lines + 1, "a"), (2 * empty_lines + 2, "b")]
