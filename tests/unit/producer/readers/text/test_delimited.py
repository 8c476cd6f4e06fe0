import csv
import io
import time
from collections.abc import Iterator
from unittest.mock import ANY

import pytest

from models.errors import UnreadableSource
from producer.readers import limits
from producer.readers.rows import Problem
from producer.readers.text.delimited import MAX_FIELD_CHARACTERS, TOO_MANY_CELLS_MESSAGE, DelimitedReader


def read(content: bytes, delimiter: str = ",") -> list[object]:
    return list(DelimitedReader(io.BytesIO(content), "a.csv", delimiter).records())


def test_rows_have_the_number_of_their_first_line() -> None:
    content = b'id,text\n1,a\n\n2,"b\nb, ""quoted"""\r\n3,c'

    assert read(content) == [
        (2, {"id": "1", "text": "a"}),
        (4, {"id": "2", "text": 'b\nb, "quoted"'}),
        (6, {"id": "3", "text": "c"}),
    ]


def test_tabs_separate_cells() -> None:
    assert read(b"id\ttext\n1\ta, b\n", "\t") == [(2, {"id": "1", "text": "a, b"})]


def test_a_byte_order_mark_is_removed() -> None:
    assert DelimitedReader(io.BytesIO(b"\xef\xbb\xbftext , id\n"), "a.csv", ",").header == ["text", "id"]


def test_a_blank_file_has_no_header() -> None:
    assert DelimitedReader(io.BytesIO(b"\n\n"), "a.csv", ",").header == []


def test_unicode_line_separators_belong_to_the_text() -> None:
    assert read("text\na\u2028b\x0cc\x85d\n".encode()) == [(2, {"text": "a\u2028b\x0cc\x85d"})]


def test_a_repeated_column_is_rejected_unless_unnamed() -> None:
    with pytest.raises(UnreadableSource, match=r"a\.csv has two columns 'text'"):
        read(b"text,id,text\n")
    assert DelimitedReader(io.BytesIO(b",text,,\n"), "a.csv", ",").header == ["", "text", "", ""]


def test_semicolons_are_recognised() -> None:
    assert read(b'\xef\xbb\xbfid;text;price\r\n1;"a; b";12,50\r\n') == [
        (2, {"id": "1", "text": "a; b", "price": "12,50"})
    ]


def test_a_header_with_commas_has_no_semicolons_between_its_cells() -> None:
    assert read(b"id,a;b\n1,x;y\n") == [(2, {"id": "1", "a;b": "x;y"})]
    assert read(b'"a;\nb",id\nx,1\n') == [(3, {"a;\nb": "x", "id": "1"})]


def test_semicolons_are_recognised_in_the_first_line_only() -> None:
    with pytest.raises(UnreadableSource, match="semicolons between its cells; put the whole header into line 1"):
        read(b"\nid;text\n1;a\n")


def test_semicolons_are_no_tabs() -> None:
    with pytest.raises(UnreadableSource, match="semicolons between its cells; name its format: csv"):
        DelimitedReader(io.BytesIO(b"id;text\n1;a\n"), "a.tsv", "\t")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"1", "has another number of cells than the header: 1 instead of 2"),
        (b"1,a,b", ": 3 instead of 2"),
        (b'1,"a" b', "goes on after a closing quote"),
        (b"1,a\rb", "carriage return"),
        (b"1,caf\xe9", "is not UTF-8 at byte 6 (0xe9)"),
    ],
)
def test_an_invalid_row_does_not_affect_others(row: bytes, words: str) -> None:
    before, problem, after = read(b"id,text\n0,a\n" + row + b"\n2,c\n")

    assert isinstance(problem, Problem)
    assert problem.location == 3
    assert words in problem.message
    assert (before, after) == ((2, {"id": "0", "text": "a"}), (4, {"id": "2", "text": "c"}))


def test_an_open_quote_is_a_problem_of_its_line_only() -> None:
    assert read(b'text\na\n"b\nc\nd\n') == [
        (2, {"text": "a"}),
        Problem(3, "has a quote that is never closed; close it, or double it if it belongs to the text", raw_input=ANY),
        (4, {"text": "c"}),
        (5, {"text": "d"}),
    ]


def test_a_line_that_is_not_utf8_is_a_problem_of_its_record() -> None:
    before, problem, after = read(b'id,text\n1,a\n2,"b\ncaf\xe9\n3,c"\n4,d\n')

    assert problem == Problem(4, "is not UTF-8 at byte 4 (0xe9); save the file as UTF-8", raw_input=ANY)
    assert (before, after) == ((2, {"id": "1", "text": "a"}), (6, {"id": "4", "text": "d"}))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b'"id"\t"text"\n', "tabs between its cells; name its format: tsv"),
        ("id,text\n1,a\n".encode("utf-16-le"), "seems to be UTF-16 without a byte-order mark"),
        ("id,text\n1,a\n".encode("utf-16-be"), "seems to be UTF-16 without a byte-order mark"),
        ("id,text\n1,a\n".encode("utf-32-le"), "seems to be UTF-32 without a byte-order mark"),
        (b"t\0\n\0", "seems to be UTF-16"),
    ],
)
def test_another_file_format_is_recognised(start: bytes, words: str) -> None:
    with pytest.raises(UnreadableSource, match=words):
        read(start)


def test_an_open_quote_in_the_header_is_rejected() -> None:
    with pytest.raises(UnreadableSource, match=r"a\.csv, line 1 has a quote that is never closed"):
        read(b'"text\na\n')


class Lines(io.RawIOBase):
    """A stream that produces lines on demand."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self.content = content
        self.bytes_read = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        line = next(self.content, b"")
        self.bytes_read += len(line)
        return line


def test_an_open_quote_does_not_read_an_endless_file() -> None:
    def content() -> Iterator[bytes]:
        yield b"text\n"
        yield b'"an open quote\n'
        while True:
            yield b"x" * 2**20 + b"\n"

    stream = Lines(content())

    records = DelimitedReader(stream, "a.csv", ",").records()  # type: ignore[arg-type]

    assert next(records) == Problem(
        2, "begins a row of more than 16 MiB; close its quote", "row_too_large", raw_input=ANY
    )
    assert stream.bytes_read <= limits.MAX_ROW_BYTES + 2 * 2**20
    assert next(records) == (3, {"text": "x" * 2**20})
    assert stream.bytes_read <= limits.MAX_ROW_BYTES + 2 * 2**20


def test_a_field_may_be_longer_than_the_csv_modules_own_limit() -> None:
    text = "x" * 1_000_000

    assert read(f"text\n{text}\n".encode()) == [(2, {"text": text})]
    assert csv.field_size_limit() == MAX_FIELD_CHARACTERS


def test_a_huge_line_does_not_affect_others() -> None:
    assert read(b"text\na\n" + b"x" * (3 * limits.MAX_ROW_BYTES) + b"\nb\n") == [
        (2, {"text": "a"}),
        Problem(3, "is longer than 16 MiB; split it", "row_too_large", raw_input=ANY),
        (4, {"text": "b"}),
    ]


def test_a_hundred_thousand_columns_are_read_quickly() -> None:
    names = [f"k{number}" for number in range(100_000)]
    started = time.process_time()

    rows = read(("text," + ",".join(names) + "\n" + ("x" + ",1" * len(names) + "\n") * 3).encode())

    assert [row[0] for row in rows if isinstance(row, tuple)] == [2, 3, 4]
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "row",
    [
        b"," * 10_000_000,
        b"a,b" * 1_000_000,
        b'a"b' + b",x" * 1_000_000,
        b'"a\nb"' + b",x" * 1_000_000,
        b'"",' * 1_000_000,
    ],
)
def test_a_row_of_too_many_cells_does_not_affect_others(row: bytes) -> None:
    before, problem, *_, after = read(b"text\nbefore\n" + row + b"\nafter\n")

    assert (before, after) == ((2, {"text": "before"}), (4 + row.count(b"\n"), {"text": "after"}))
    assert isinstance(problem, Problem)
    assert (problem.message, problem.code) == (TOO_MANY_CELLS_MESSAGE, "row_too_large")


@pytest.mark.parametrize(
    "cell", ['"' + "," * 900_000 + '"', '"' + ',\n""' * 200_000 + '"', '"' + '"",' * 300_000 + '"']
)
def test_delimiters_in_quotes_do_not_separate_cells(cell: str) -> None:
    text = cell[1:-1].replace('""', '"')

    assert read(f"id,text\n1,{cell}\n2,a\n".encode()) == [
        (2, {"id": "1", "text": text}),
        (3 + text.count("\n"), {"id": "2", "text": "a"}),
    ]


@pytest.mark.parametrize(
    "field", [b"x" * 5 * 2**20, b'"' + b"x" * 5 * 2**20 + b'"', b'"' + b"a line\n" * 500_000 + b'"']
)
def test_a_huge_field_does_not_affect_other_rows(field: bytes) -> None:
    before, problem, after = read(b"text\na\n" + field + b"\nb\n")

    assert (before, after) == ((2, {"text": "a"}), (4 + field.count(b"\n"), {"text": "b"}))
    assert problem == Problem(
        3, "has a field of more than 2,097,152 characters; shorten it", "row_too_large", raw_input=ANY
    )


@pytest.mark.parametrize("header", ['"a, b";"text"', '"id";"the ""text"""', "id;text"])
def test_semicolons_are_recognised_with_quotes(header: str) -> None:
    [(line, cells)] = read(f"{header}\n1;a\n".encode())

    assert (line, list(cells.values())) == (2, ["1", "a"])


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_recognised_if_it_begins_with_another_script(codec: str) -> None:
    with pytest.raises(UnreadableSource, match="seems to be UTF-16 without a byte-order mark"):
        read("名前,text,id\n1,a,b\n".encode(codec))
