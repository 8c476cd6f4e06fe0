"""The file that an export writes: its name shows the format, and it appears complete or not at all."""

import importlib.util
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from models.errors import UsageError
from models.privacy import private_files

FORMAT_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".npy": "npy"}


def check_target(path: Path, file_format: str | None = None) -> str:
    """Return the format, by default the one that the path's suffix names: `jsonl`, `csv`, `parquet` or `npy`.

    Raises UsageError when the suffix is another, or the path can't be written.
    """
    file_format = file_format or FORMAT_BY_SUFFIX.get(path.suffix.lower())
    if file_format is None:
        raise UsageError(f"the name of {path} does not show its format; call it .jsonl, .csv, .parquet or .npy")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise UsageError(f"{path} is not a regular file; leave -o out to write to standard output")
    if not path.resolve().parent.is_dir():
        raise UsageError(f"there is no folder {path.resolve().parent}; make it first")
    if file_format == "parquet":
        require_pyarrow()
    return file_format


def require_pyarrow() -> None:
    """Raise UsageError with the command that installs pyarrow, if it is missing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("Parquet needs pyarrow; in the checkout, run: pip install -c constraints.txt '.[parquet]'")


@contextmanager
def open_target(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces the path once it is complete and on disk; until then the old file stays."""
    path = path.resolve()  # replaces the target of a symbolic link, and keeps the link
    # The name is random, so that nobody else can have placed a file or a link there.
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    is_created = False
    try:
        with os.fdopen(private_files.create_exclusive(part, 0o666), "wb") as file:
            is_created = True
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # by the umask, as for any new file
            os.fchmod(file.fileno(), private_files.FILE_MODE)
            yield file
            file.flush()
            _copy_ownership_and_mode(file.fileno(), path, mode)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
    finally:
        if is_created:
            part.unlink(missing_ok=True)


def _copy_ownership_and_mode(descriptor: int, path: Path, mode: int) -> None:
    """Copy the owner, group and mode of the file to be replaced, as far as permitted; without one, set `mode`."""
    with suppress(FileNotFoundError):
        replaced = path.stat()
        group = _group_of(replaced)
        mode = stat.S_IMODE(replaced.st_mode) & 0o777
        with suppress(PermissionError):
            os.fchown(descriptor, -1, group)
        with suppress(PermissionError):
            os.fchown(descriptor, replaced.st_uid, -1)
        if os.fstat(descriptor).st_gid != group:
            mode &= ~0o070  # our own group must not get the rights of the other
    os.fchmod(descriptor, mode)


def _group_of(status: os.stat_result) -> int:
    return status.st_gid
