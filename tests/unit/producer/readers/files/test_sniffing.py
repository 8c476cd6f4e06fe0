"""The format of a file by its name or its beginning."""

import io

import pytest

from producer.readers.files import sniffing


@pytest.mark.parametrize(
    ("start", "file_format"),
    [
        (b"PAR1\x15\x04", "parquet"),
        (b'{"text": "a"}\n{"text": "b"}\n', "jsonl"),
        (b'\xef\xbb\xbf{"text": "a"}\n', "jsonl"),
        (b'"a text"\n', "jsonl"),
        (b"id,text\n1,a\n2,b\n", "csv"),
        (b"id\ttext\n1\ta, b\n", "tsv"),
        (b"a fine day, all in all\nno comma here\n", "text"),
        (b"one line, with a comma", "text"),
        (b"{broken\n", "text"),
        (b"[1, 2\n", "text"),
        (b"\xff\xfe\x00", "text"),
        (b"\n \n", "text"),
        (b"", "text"),
        (b"[" * 60_000, "text"),
    ],
)
def test_the_content_shows_the_format(start: bytes, file_format: str) -> None:
    assert sniffing.sniff_format(start) == file_format


def test_a_line_that_is_cut_off_does_not_count() -> None:
    line = b'{"text": "' + b"a" * 1_000 + b'"}\n'
    start = (line * 100)[: sniffing.SNIFFED_BYTES]

    assert sniffing.sniff_format(start) == "jsonl"


def test_a_name_counts_before_the_content() -> None:
    assert sniffing.find_format("a.csv.gz", io.BytesIO(b'{"text": "a"}\n')) == "csv"
    assert sniffing.find_format("a.data", io.BytesIO(b'{"text": "a"}\n')) == "jsonl"
