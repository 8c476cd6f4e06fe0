"""Source files are found by path, pattern or URL; each has a format, and opens as a decompressed stream."""

import glob
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from models.errors import MissingSource, UnreadableSource, UsageError
from models.privacy import urls
from producer.readers.files import remote
from producer.readers.files.access import UNRESTRICTED, Access, is_url
from producer.readers.files.compression import decompress

STDIN = "-"
FILE_FORMATS = ("jsonl", "csv", "tsv", "parquet", "text")
FORMAT_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
}
COMPRESSED_SUFFIXES = (".gz", ".zst")
MAX_FILES = 100_000  # that one pattern may match
SPREADSHEET, OTHER_TABLE = "is a spreadsheet; save the sheet as CSV (UTF-8)", "has a format that is not read"
# Files that people have, and which are not read, with the advice.
OTHER_FORMATS = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), SPREADSHEET),
    **dict.fromkeys((".feather", ".arrow", ".avro", ".orc"), f"{OTHER_TABLE}; save it as Parquet"),
    **dict.fromkeys((".xml", ".yaml", ".yml"), f"{OTHER_TABLE}; save it as JSON lines"),
}
UNSUPPORTED_SUFFIXES = (".bz2", ".xz", ".zip", ".7z", ".lz4")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    path: a path, a URL, or `-` for standard input.
    file_format: one of FILE_FORMATS.
    """

    path: str
    file_format: str
    access: Access = UNRESTRICTED

    @property
    def name(self) -> str:
        """The path for messages, without a URL's secrets."""
        return "standard input" if self.path == STDIN else urls.redact_path(self.path)

    @property
    def unit(self) -> str:
        """The unit of its locations."""
        return _unit(self.file_format)

    @contextmanager
    def open_stream(self) -> Iterator[BinaryIO]:
        """Its decompressed content; raises UnreadableSource. Closed when the block ends, except standard input."""
        if self.path == STDIN:
            yield decompress(sys.stdin.buffer, self.name)
            return
        is_remote = is_url(self.path)
        with (
            remote.open_url(self.path, self.access.timeout_seconds) if is_remote else self.access.open_file(self.path)
        ) as stream:
            yield decompress(stream, self.name)


@dataclass(frozen=True, slots=True)
class StreamFile:
    """A stream as a file of a source.

    name: for messages.
    file_format: one of FILE_FORMATS.
    """

    stream: BinaryIO
    name: str
    file_format: str

    @property
    def unit(self) -> str:
        """The unit of its locations."""
        return _unit(self.file_format)

    @contextmanager
    def open_stream(self) -> Iterator[BinaryIO]:
        """Its decompressed content; raises UnreadableSource."""
        yield decompress(self.stream, self.name)


def find_files(paths: Iterable[str], file_format: str | None = None, access: Access = UNRESTRICTED) -> list[SourceFile]:
    """The files of these paths, URLs and patterns, in order; the matches of a pattern are sorted by name.

    file_format: one of FILE_FORMATS; None = by each file's name, and JSON lines for standard input.

    Raises UnreadableSource if there is no such file, its name does not show its format, or `access` does not allow it.
    """
    paths = list(paths)
    if STDIN in paths and len(paths) > 1:
        raise UsageError("- (standard input) can't be combined with files; give either")
    return [
        SourceFile(path, file_format or format_from_name(path), access)
        for path_or_url in paths
        for path in _expand_pattern(path_or_url, access)
    ]


def format_from_name(path: str) -> str:
    """The format that a file's name shows; raises UnreadableSource if it shows none."""
    if path == STDIN:
        return "jsonl"
    name = urls.redact_path(path)
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if suffixes and suffixes[-1] in UNSUPPORTED_SUFFIXES:
        raise UnreadableSource(f"{name} is compressed as {suffixes[-1]}, which is not read; use gzip or zstd")
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    if suffixes and suffixes[-1] in FORMAT_BY_SUFFIX:
        return FORMAT_BY_SUFFIX[suffixes[-1]]
    if suffixes and suffixes[-1] in OTHER_FORMATS:
        raise UnreadableSource(f"{name} {OTHER_FORMATS[suffixes[-1]]}")
    *formats, last = FILE_FORMATS
    raise UnreadableSource(
        f"{name} does not say by its name what it is; name its format: {', '.join(formats)} or {last}"
    )


def _unit(file_format: str) -> str:
    return "row" if file_format == "parquet" else "line"


def _expand_pattern(path_or_url: str, access: Access) -> list[str]:
    if path_or_url == STDIN:
        return [path_or_url]
    path = access.resolve(path_or_url)
    if is_url(path):
        matches = remote.find_urls(path, access.timeout_seconds)
    elif any(character in path for character in "*?[") and not _exists(path):
        matches = list(islice(glob.iglob(path, recursive=True), MAX_FILES + 1))  # noqa: PTH207 (absolute patterns)
        matches = sorted(match for match in matches if not Path(match).is_dir())
        if len(matches) > MAX_FILES:
            raise UnreadableSource(f"{path} matches more than {MAX_FILES:,} files; submit fewer of them at once")
    else:
        # Before any file is read, because the missing one may be the last of several.
        if not _exists(path):
            raise MissingSource(f"there is no file {path}")
        if Path(path).is_dir():
            raise UnreadableSource(f"{path} is a folder; name the files in it, such as {Path(path) / '*.jsonl'}")
        return [path]
    if not matches:
        raise MissingSource(f"no file matches {urls.redact_path(path)}")
    return matches


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MissingSource(f"{path} can't be opened: {reason}") from None
    return True
