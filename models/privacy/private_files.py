"""Private files and folders for inputs, outputs and keys, readable by this user only."""

import os
import stat
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600
GROUP_AND_OTHERS_BITS = 0o077  # permission bits of group and others
HOME_ADVICE = "set BATCHMILL_HOME to a folder of your own with a shorter path"


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
