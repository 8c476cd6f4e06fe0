"""Files: which ones a path or pattern stands for, what each of them is, and opening them."""

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
from producer.readers import remote
from producer.readers.access import UNRESTRICTED, Access, is_url
from producer.readers.compression import decompress

STDIN = "-"
FILE_FORMATS = ("jsonl", "csv", "tsv", "parquet")
FORMAT_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
COMPRESSED_SUFFIXES = (".gz", ".zst")
MAX_FILES = 100_000  # that one pattern stands for
UNSUPPORTED_SUFFIXES = (".bz2", ".xz", ".zip", ".7z", ".lz4")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: how it is reached, and what it holds (one of KINDS)."""

    path: str
    file_format: str
    access: Access = UNRESTRICTED

    @property
    def name(self) -> str:
        """For people."""
        return "standard input" if self.path == STDIN else urls.redact_path(self.path)

    @property
    def unit(self) -> str:
        """What its rows are counted in."""
        return "row" if self.file_format == "parquet" else "line"

    @contextmanager
    def open_stream(self) -> Iterator[BinaryIO]:
        """Its unpacked content, closed with the block, unless it is standard input. Raises UnreadableSource."""
        if self.path == STDIN:
            yield decompress(sys.stdin.buffer, self.name)
            return
        with self._open_raw() as stream:
            yield decompress(stream, self.name)

    def _open_raw(self) -> BinaryIO:
        return (
            remote.open_url(self.path, self.access.timeout_seconds)
            if is_url(self.path)
            else self.access.open_file(self.path)
        )


def find_files(paths: Iterable[str], file_format: str | None = None, access: Access = UNRESTRICTED) -> list[SourceFile]:
    """The files that paths, URLs and patterns stand for, in this order; a pattern's are sorted by name.

    `kind` is one of KINDS; None goes by each file's name, and takes standard input for JSON lines. Raises
    UnreadableSource where there is none, where nothing says what it is, or where `access` does not admit it.
    """
    paths = list(paths)
    if STDIN in paths and len(paths) > 1:
        raise UsageError("- for standard input stands alone; give it, or files")
    return [
        SourceFile(path, file_format or format_from_name(path), access)
        for given in paths
        for path in _expand_pattern(given, access)
    ]


def format_from_name(path: str) -> str:
    """Which of KINDS a file's name says that it is; raises UnreadableSource where it does not say."""
    if path == STDIN:
        return "jsonl"
    shown = urls.redact_path(path)
    suffixes = [suffix.lower() for suffix in PurePosixPath(shown).suffixes]
    if suffixes and suffixes[-1] in UNSUPPORTED_SUFFIXES:
        raise UnreadableSource(f"{shown} is packed as {suffixes[-1]}, which is not read; pack it with gzip or zstd")
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    if suffixes and suffixes[-1] in FORMAT_BY_SUFFIX:
        return FORMAT_BY_SUFFIX[suffixes[-1]]
    raise UnreadableSource(f"{shown} does not say by its name what it is; say --format {' or '.join(FILE_FORMATS)}")


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
            raise UnreadableSource(f"{path} stands for more than {MAX_FILES:,} files; submit fewer of them at once")
    else:
        # Before anything is read: of several files the last may be the one that is not there.
        if not _exists(path):
            raise MissingSource(f"there is no file {path}")
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
