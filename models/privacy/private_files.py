"""Files and folders that only this user may read: they hold inputs, outputs and keys."""

import os
import stat
from pathlib import Path

FOLDER_MODE, FILE_MODE = 0o700, 0o600
GROUP_AND_OTHERS_BITS = 0o077  # what group and others may
HOME_ADVICE = "set BATCHMILL_HOME to a folder of your own with a shorter path"


def make_folder(path: Path) -> None:
    """Make a folder that only this user may open; one that is there stays as it is. Raises OSError.

    Folders above it that are missing are made the same way: each of them is ours alone.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(FOLDER_MODE, exist_ok=True)


def make_file(path: Path) -> None:
    """Make an empty file that only this user may read, before others write to it; one that is there stays as it is."""
    os.close(open_file(path))


def open_file(path: Path, flags: int = os.O_WRONLY) -> int:
    """The descriptor of a file that is made with mode 0600 where it is missing; raises OSError."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def create_exclusive(path: Path, mode: int = FILE_MODE) -> int:
    """The descriptor of a file that was not there, nor a link in its place; `mode` less the umask. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def untrusted_reason(path: Path) -> str | None:
    """Why a folder is not to be trusted with a socket, ending in advice; None where it is, or where there is none.

    In a folder that all may write to, such as /tmp, somebody may have been there first: with a folder of their own, or
    with a link to one.
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
    """Whether group or others may read, write or enter; False where there is nothing."""
    try:
        return bool(path.stat().st_mode & GROUP_AND_OTHERS_BITS)
    except OSError:
        return False
