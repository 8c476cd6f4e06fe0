"""Private files and folders for inputs, outputs and keys, readable by this user only."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import BatchmillError, SettingsError, Unreachable

FOLDER_MODE, FILE_MODE = 0o700, 0o600
GROUP_AND_OTHERS_BITS = 0o077  # permission bits of group and others
HOME_ADVICE = "set BATCHMILL_HOME to a folder of your own with a shorter path"

OTHER_PLACE = "set BATCHMILL_HOME or BATCHMILL_DATABASE_URL to another place"
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED_ERRNOS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def make_folder(path: Path) -> None:
    """Create a folder that only this user may enter; an existing folder is unchanged. Raises OSError.

    Missing parent folders are created with the same mode.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(FOLDER_MODE, exist_ok=True)


def make_file(path: Path) -> None:
    """Create an empty private file before other code writes to it; an existing file is unchanged."""
    os.close(open_file(path))


def open_file(path: Path, flags: int = os.O_WRONLY) -> int:
    """Open a file and return its descriptor, creating it with mode 0600 if missing; raises OSError."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def create_exclusive(path: Path, mode: int = FILE_MODE) -> int:
    """Create a new file and return its descriptor. Raises OSError if a file or link exists.

    mode: permission bits, reduced by the umask.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def untrusted_reason(path: Path) -> str | None:
    """Return why a folder is unsafe for a socket, with advice; None if it is safe or missing.

    In a world-writable folder such as /tmp, another user may have created the folder, or a link in its place.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{path} can't be looked at ({error.strerror}); {HOME_ADVICE}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is a link or a file, which somebody may have put there; remove it, or {HOME_ADVICE}"
    if found.st_uid != os.geteuid():
        return f"{path} belongs to another user; {HOME_ADVICE}"
    if found.st_mode & 0o022:
        return f"others may write to {path}; remove it, or {HOME_ADVICE}"
    return None


def is_open_to_others(path: Path) -> bool:
    """Return whether group or others have any access; False if the file is missing."""
    try:
        return bool(path.stat().st_mode & GROUP_AND_OTHERS_BITS)
    except OSError:
        return False


@contextmanager
def explain_unwritable(path: Path) -> Iterator[None]:
    """Replace an OSError by a sentence that names `path`: Unreachable if it may pass, else SettingsError."""
    try:
        yield
    except OSError as error:
        raise unwritable_error(path, error) from None


def unwritable_error(path: Path, error: OSError) -> BatchmillError:
    """Build the error for a file or folder that can't be written to."""
    if error.errno in FULL_ERRNOS:
        return Unreachable(f"{path} is full; make room on its disk")
    sentence = f"{path} can't be written to: {error.strerror}"
    if error.errno in REFUSED_ERRNOS:
        return Unreachable(f"{sentence}; make it writable, or {OTHER_PLACE}")
    return SettingsError(f"{sentence}; {OTHER_PLACE}")


def find_refusal(path: Path) -> BatchmillError | None:
    """Return the error if this user may not write to a file or its folder; None if both seem writable.

    A driver reports such a file as one that can't be opened, without the reason.
    """
    for place in (path.parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            is_read_only = os.statvfs(place).f_flag & os.ST_RDONLY
            number = errno.EROFS if is_read_only else errno.EACCES
            return unwritable_error(place, OSError(number, os.strerror(number)))
    return None
