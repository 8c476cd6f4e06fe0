"""Ranges of bytes as RFC 9110 has them."""

import pytest

from producer.server.openai_api.content import content_disposition
from producer.server.openai_api.ranges import ByteRange, UnsatisfiableRange, has_same_etag, parse_range, wants_part

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-4", 2, 5),
        ("bytes=7-", 7, 10),
        ("bytes=-3", 7, 10),
        ("bytes=5-99", 5, 10),
        ("bytes=-99", 0, 10),
        ("bytes= 1-2 ", 1, 3),
    ],
)
def test_a_range_is_cut_to_the_file(header: str, start: int, end: int) -> None:
    assert wants_part({"range": header}, ETAG)
    assert parse_range(header, 10) == ByteRange(start, end, 10)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=5-4"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        parse_range(header, 10)


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-4", "bytes=1" * 99])
def test_other_ranges_get_the_whole_file(header: str) -> None:
    assert not wants_part({"range": header}, ETAG)


def test_a_part_of_another_state_is_not_given() -> None:
    assert wants_part({"range": "bytes=0-1", "if-range": ETAG}, ETAG)
    assert not wants_part({"range": "bytes=0-1", "if-range": '"old"'}, ETAG)
    assert not wants_part({"range": "bytes=0-1", "if-range": "Wed, 21 Oct 2015 07:28:00 GMT"}, ETAG)


def test_a_known_state_is_not_sent_again() -> None:
    assert has_same_etag({"if-none-match": '"x", "abc"'}, ETAG)
    assert has_same_etag({"if-none-match": "*"}, ETAG)
    assert not has_same_etag({"if-none-match": '"x"'}, ETAG)
    assert not has_same_etag({}, ETAG)


def test_a_file_name_can_add_no_header() -> None:
    assert content_disposition("batch_1_output.jsonl") == 'attachment; filename="batch_1_output.jsonl"'
    hostile = content_disposition('a"\r\nSet-Cookie: x=é.jsonl')
    assert hostile.isascii()
    assert "\r" not in hostile
    assert "\n" not in hostile
    assert hostile.startswith('attachment; filename="a___Set-Cookie_ x__.jsonl"; filename*=UTF-8')
