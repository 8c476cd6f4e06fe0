"""Lines of UTF-8 text are read with their numbers, in bounded length, without the byte-order mark.

The lines of a text file are its records; the other text formats parse them.
"""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from models.errors import UnreadableSource
from producer.readers.column_mapping import WHOLE_ROW
from producer.readers.limits import MAX_ROW_BYTES, ROW_TOO_LARGE, ROW_TOO_LONG_MESSAGE, Meter
from producer.readers.rows import Problem

# A character past U+00FF makes each character of the decoded line take two bytes, and one past U+FFFF four.
DECODED_TOO_LONG_MESSAGE = f"is longer than {MAX_ROW_BYTES // 2**20} MiB once it is decoded; split it"
WIDE_CHARACTER, ASTRAL_CHARACTER = re.compile(rb"[\xc4-\xf4]"), re.compile(rb"[\xf0-\xf4]")
CONTINUATION_BYTES = bytes(range(0x80, 0xC0))  # no character begins with one

SNIFF_BYTES = 1024
MAX_KEPT_BYTES = 2**16  # of a line that can't be read; less of it is stored
NOT_TEXT_MESSAGES = {
    b"\x1f\x8b": "is compressed twice; unpack it once with gunzip",
    b"PK\x03\x04": "is a ZIP or Excel file; unpack it, or save the sheet as CSV (UTF-8)",
    b"PAR1": "is a Parquet file; name its format, parquet, or save it as JSON lines",
    b"\xd0\xcf\x11\xe0": "is an old Excel or Word file; save the sheet as CSV (UTF-8)",
    b"%PDF-1.": "is a PDF file; extract its text, and save that as UTF-8",
    b"\xff\xd8\xff": "is an image, and has no text",
    b"\x89PNG": "is an image, and has no text",
    b"SQLite format 3": "is a SQLite database; export the table as CSV",
    codecs.BOM_UTF32_LE: "is UTF-32; save it as UTF-8",
    codecs.BOM_UTF16_LE: "is UTF-16; save it as UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16; save it as UTF-8",
}


def read_lines(
    stream: BinaryIO, name: str, meter: Meter | None = None, *, skip_blank: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, from 1, split at newlines only: U+2028 and similar characters belong to the text.

    skip_blank: leave out some of the empty lines, though they count: a compressed file may have hundreds of millions.

    A line over MAX_ROW_BYTES is cut one byte after that limit; the next call skips its rest in bounded memory.
    Raises UnreadableSource if the stream is no UTF-8 text, and SourceTooLarge.
    """
    number, meter = 0, meter or Meter()
    while line := stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        meter.add(len(line), f"{name}, line {number}")
        if number == 1:
            _reject_other_formats(line, name)
            line = line.removeprefix(codecs.BOM_UTF8)
        is_cut = len(line) > MAX_ROW_BYTES and not line.endswith(b"\n")
        is_empty = line == b"\n"
        yield number, line
        line = b""  # so that it is not in memory together with the next one
        while is_cut:
            rest = stream.readline(MAX_ROW_BYTES // 16)
            meter.add(len(rest), f"{name}, line {number}")
            is_cut = rest != b"" and not rest.endswith(b"\n")
        if is_empty and skip_blank:
            while empty := _skip_empty_lines(stream):
                number += empty
                meter.add(empty, f"{name}, line {number}")


def read_texts(stream: BinaryIO, name: str, meter: Meter | None = None) -> Iterator[tuple[int, object] | Problem]:
    """Each line's number and text, without the line's end; blank lines are skipped."""
    for number, line in read_lines(stream, name, meter, skip_blank=True):
        if not line or line.isspace():
            continue
        if len(line) > MAX_ROW_BYTES:
            yield Problem(number, ROW_TOO_LONG_MESSAGE, ROW_TOO_LARGE, raw_input=keep_line(line))
        elif is_too_long_decoded(line):
            yield Problem(number, DECODED_TOO_LONG_MESSAGE, ROW_TOO_LARGE, raw_input=keep_line(line))
        else:
            yield _decode_text(number, line)


def _decode_text(number: int, line: bytes) -> tuple[int, object] | Problem:
    try:
        return number, line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        return Problem(number, not_utf8_message(error), raw_input=keep_line(line))


def _skip_empty_lines(stream: BinaryIO) -> int:
    """Skip the newlines that are next in the stream's buffer; returns their number."""
    if not isinstance(stream, io.BufferedReader):
        return 0
    buffered = stream.peek(1)
    if not buffered.startswith(b"\n"):
        return 0
    return len(stream.read(len(buffered) - len(buffered.lstrip(b"\n"))))


def is_too_long_decoded(line: bytes) -> bool:
    """Whether the decoded line takes more than MAX_ROW_BYTES of memory."""
    if 4 * len(line) <= MAX_ROW_BYTES or not WIDE_CHARACTER.search(line):
        return False
    width = 4 if ASTRAL_CHARACTER.search(line) else 2
    return width * len(line.translate(None, CONTINUATION_BYTES)) > MAX_ROW_BYTES


def keep_line(line: bytes) -> dict[str, str]:
    """The start of a line that can't be read, as the input of an invalid row."""
    return {WHOLE_ROW: line[:MAX_KEPT_BYTES].rstrip(b"\r\n").decode("utf-8", "backslashreplace")}


def not_utf8_message(error: UnicodeDecodeError) -> str:
    """A sentence on a line that can't be decoded, which does not quote it."""
    return f"is not UTF-8 at byte {error.start + 1} (0x{error.object[error.start]:02x}); save the file as UTF-8"


def _reject_other_formats(start: bytes, name: str) -> None:
    for magic, sentence in NOT_TEXT_MESSAGES.items():
        if start.startswith(magic):
            raise UnreadableSource(f"{name} {sentence}")
    if b"\0" in start[:2] or start.count(b"\0", 0, SNIFF_BYTES) * 8 >= min(len(start), SNIFF_BYTES):
        # ASCII characters in UTF-16 or UTF-32 have NUL bytes, in either byte order; UTF-8 text has none.
        kind = "UTF-32" if b"\0\0" in start[:4] else "UTF-16"
        raise UnreadableSource(f"{name} seems to be {kind} without a byte-order mark; save it as UTF-8")
