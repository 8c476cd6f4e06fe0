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
from producer.readers.access import ANYWHERE, Access, is_url
from producer.readers.compression import unpacked

STDIN = "-"
KINDS = ("jsonl", "csv", "tsv", "parquet")
SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip
PACKED = (".gz", ".zst")
MOST_FILES = 100_000  # that one pattern stands for
OTHERWISE_PACKED = (".bz2", ".xz", ".zip", ".7z", ".lz4")


@dataclass(frozen=True, slots=True)
class File:
    """One file: how it is reached, and what it holds (one of KINDS)."""

    path: str
    kind: str
    access: Access = ANYWHERE

    @property
    def name(self) -> str:
        """For people."""
        return "standard input" if self.path == STDIN else urls.shown_file(self.path)

    @property
    def unit(self) -> str:
        """What its rows are counted in."""
        return "row" if self.kind == "parquet" else "line"

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Its unpacked content, closed with the block, unless it is standard input. Raises UnreadableSource."""
        if self.path == STDIN:
            yield unpacked(sys.stdin.buffer, self.name)
            return
        with self._stream() as stream:
            yield unpacked(stream, self.name)

    def _stream(self) -> BinaryIO:
        return remote.opened(self.path, self.access.seconds) if is_url(self.path) else self.access.opened(self.path)


def found(paths: Iterable[str], kind: str | None = None, access: Access = ANYWHERE) -> list[File]:
    """The files that paths, URLs and patterns stand for, in this order; a pattern's are sorted by name.

    `kind` is one of KINDS; None goes by each file's name, and takes standard input for JSON lines. Raises
    UnreadableSource where there is none, where nothing says what it is, or where `access` does not admit it.
    """
    paths = list(paths)
    if STDIN in paths and len(paths) > 1:
        raise UsageError("- for standard input stands alone; give it, or files")
    return [File(path, kind or kind_of(path), access) for given in paths for path in _expanded(given, access)]


def kind_of(path: str) -> str:
    """Which of KINDS a file's name says that it is; raises UnreadableSource where it does not say."""
    if path == STDIN:
        return "jsonl"
    shown = urls.shown_file(path)
    suffixes = [suffix.lower() for suffix in PurePosixPath(shown).suffixes]
    if suffixes and suffixes[-1] in OTHERWISE_PACKED:
        raise UnreadableSource(f"{shown} is packed as {suffixes[-1]}, which is not read; pack it with gzip or zstd")
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    if suffixes and suffixes[-1] in SUFFIXES:
        return SUFFIXES[suffixes[-1]]
    raise UnreadableSource(f"{shown} does not say by its name what it is; say --format {' or '.join(KINDS)}")


def _expanded(said: str, access: Access) -> list[str]:
    if said == STDIN:
        return [said]
    path = access.admitted(said)
    if is_url(path):
        matches = remote.found(path, access.seconds)
    elif any(character in path for character in "*?[") and not _exists(path):
        matches = list(islice(glob.iglob(path, recursive=True), MOST_FILES + 1))  # noqa: PTH207 (absolute patterns)
        matches = sorted(match for match in matches if not Path(match).is_dir())
        if len(matches) > MOST_FILES:
            raise UnreadableSource(f"{path} stands for more than {MOST_FILES:,} files; submit fewer of them at once")
    else:
        # Before anything is read: of several files the last may be the one that is not there.
        if not _exists(path):
            raise MissingSource(f"there is no file {path}")
        return [path]
    if not matches:
        raise MissingSource(f"no file matches {urls.shown_file(path)}")
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
