"""The format of a file by its name, or else by how its content begins."""

import codecs
import json
from typing import BinaryIO

from models.errors import UnreadableSource
from producer.readers.files.source_files import format_from_name
from producer.readers.parquet.footer import PARQUET_MAGIC

SNIFFED_BYTES = 2**16
SNIFFED_LINES = 20
DELIMITERS = {"tsv": "\t", "csv": ","}  # tabs first, because texts have fewer of them than commas


def find_format(filename: str, stream: BinaryIO) -> str:
    """Return one of FILE_FORMATS for an uncompressed stream, of which the first bytes may be read."""
    try:
        return format_from_name(filename)
    except UnreadableSource:
        return sniff_format(stream.read(SNIFFED_BYTES))


def sniff_format(start: bytes) -> str:
    """Return the format of a file by its first bytes: `text` where nothing shows another. Pure."""
    if start.startswith(PARQUET_MAGIC):
        return "parquet"
    text = start.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and len(start) >= SNIFFED_BYTES:
        lines.pop()  # it may be cut off
    if not lines:
        return "text"
    if all(map(_is_json_record, lines[:SNIFFED_LINES])):
        return "jsonl"
    for file_format, delimiter in DELIMITERS.items():
        if len(lines) > 1 and delimiter in lines[0] and all(delimiter in line for line in lines[:SNIFFED_LINES]):
            return file_format
    return "text"


def _is_json_record(line: str) -> bool:
    if not line.lstrip().startswith(("{", '"', "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
