"""Files: which ones a path or pattern stands for, what each of them is, and opening them."""

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from models import urls
from models.errors import MissingSource, UnreadableSource, UsageError
from producer.readers import remote
from producer.readers.packing import unpacked

STDIN = "-"
KINDS = ("jsonl", "csv", "tsv", "parquet")
SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
    ".pq": "parquet",
}  # fmt: skip
PACKED = (".gz", ".zst")
OTHERWISE_PACKED = (".bz2", ".xz", ".zip", ".7z", ".lz4")


@dataclass(frozen=True, slots=True)
class File:
    """One file: how it is reached, and what it holds (one of KINDS)."""

    path: str
    kind: str

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
        with _opened(self.path) as stream:
            yield unpacked(stream, self.name)


def found(paths: Iterable[str], kind: str | None = None) -> list[File]:
    """The files that paths, URLs and patterns stand for, in this order; a pattern's are sorted by name.

    `kind` is one of KINDS; None goes by each file's name, and takes standard input for JSON lines. Raises
    UnreadableSource where there is none, or nothing says what it is.
    """
    paths = list(paths)
    if STDIN in paths and len(paths) > 1:
        raise UsageError("- for standard input stands alone; give it, or files")
    return [File(path, kind or kind_of(path)) for given in paths for path in _expanded(given)]


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


def _expanded(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    if "://" in path:
        matches = remote.found(path)
    elif any(character in path for character in "*?[") and not _exists(path):
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (a Path has no absolute patterns)
        matches = [match for match in matches if not Path(match).is_dir()]
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


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    stream = remote.opened(path) if "://" in path else _local(path)
    with stream:
        yield stream


def _local(path: str) -> BinaryIO:
    try:
        # Not blocking, since opening a FIFO waits for its writer; regular files don't care.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise MissingSource(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MissingSource(f"{path} can't be opened: {reason}") from None
    # Asked of what was opened, not of the path, which may change in between.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableSource(f"{path} is not a regular file; for a pipe, use: … | batchmill submit -")
    return os.fdopen(descriptor, "rb", buffering=2**20)
