"""Which bytes a request wants, by RFC 9110. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` on and before `end`, of `size` bytes."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """The header of the response."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class UnsatisfiableRange(Exception):
    """The range begins behind the last byte."""


def wants_part(headers: Mapping[str, str], etag: str) -> bool:
    """Whether a request asks for a part of this state of the file; several ranges at once get the whole file."""
    if RANGE.fullmatch(headers.get("range", "")) is None:
        return False
    condition = headers.get("if-range")
    return condition is None or condition.strip() == etag  # a weak one, or a time, never matches


def parse_range(header: str, size: int) -> ByteRange:
    """The range of a header that `wants_part` knows; raises UnsatisfiableRange."""
    match = RANGE.fullmatch(header)
    assert match is not None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= size or start >= end:
        raise UnsatisfiableRange
    return ByteRange(start, end, size)


def has_same_etag(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the client has this state of the file already."""
    known = headers.get("if-none-match")
    return known is not None and (known.strip() == "*" or etag in {part.strip() for part in known.split(",")})
