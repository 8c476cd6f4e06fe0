"""Access: what sources may name, whatever the spelling: files of this machine, and URLs of schemes that are allowed."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from models.errors import MissingSource, UnreadableSource
from models.privacy import urls
from models.settings import Settings

SCHEME_PATTERN = re.compile(r"[a-z][a-z0-9+.-]*")
LOCAL_SCHEMES = ("file", "local")
PROC_FD = Path("/proc/self/fd")  # on Linux: to whatever this process has open
GLOB_CHARACTERS = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Access:
    """`roots` are the folders under which files may lie, None for any; `seconds` is how long a URL may be silent."""

    roots: tuple[Path, ...] | None = None
    schemes: frozenset[str] = frozenset()
    timeout_seconds: float = Settings.model_fields["source_timeout_seconds"].default

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """As the operator has set it."""
        roots = settings.source_roots
        return cls(
            None if roots is None else tuple(Path(os.path.realpath(root.expanduser())) for root in roots),
            frozenset(scheme.lower().removesuffix("://") for scheme in settings.source_schemes),
            settings.source_timeout_seconds,
        )

    def resolve(self, path_or_url: str) -> str:
        """A path or URL that may be read, file:// as the path that it is; raises UnreadableSource.

        Where a path leads through links is seen when it is opened.
        """
        if not is_url(path_or_url):
            self._check_roots(path_or_url)
            return path_or_url
        scheme, _, rest = path_or_url.partition("://")
        if "::" in path_or_url:  # fsspec's own way to have one file system read through another
            raise _unreadable_error(path_or_url, "leads through several file systems; name the file itself")
        if scheme.lower() in LOCAL_SCHEMES:
            if not rest.startswith("/"):
                raise _unreadable_error(
                    path_or_url, f"names no file of this machine; write it such as {scheme.lower()}:///data/a.jsonl"
                )
            self._check_roots(rest)
            return rest
        if not SCHEME_PATTERN.fullmatch(scheme.lower()) or scheme.lower() not in self.schemes:
            known = f"are {', '.join(sorted(self.schemes))}" if self.schemes else "there are none"
            raise _unreadable_error(
                path_or_url, f"is a URL that sources may not name: of the setting source_schemes {known}"
            )
        return path_or_url

    def open_file(self, path: str) -> BinaryIO:
        """A file of this machine; raises MissingSource, or UnreadableSource where it is no regular one, or no root's.

        All is asked of what was opened, not of the path, which may change in between.
        """
        descriptor = _open_descriptor(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableSource(f"{path} is not a regular file; for a pipe, use: … | batchmill submit -")
            if self.roots is not None and not self._is_under_roots(_real_path(descriptor, path)):
                raise self._outside_error(path)
            return os.fdopen(descriptor, "rb", buffering=2**20)
        except BaseException:
            os.close(descriptor)
            raise

    def _check_roots(self, path: str) -> None:
        """Nothing outside of the roots is even looked for."""
        if self.roots is None:
            return
        fixed = GLOB_CHARACTERS.split(path, maxsplit=1)[0]
        folder = path if fixed == path else os.path.dirname(fixed)  # noqa: PTH120 (a Path drops what it takes for void)
        try:
            real = os.path.realpath(folder or ".")
        except (OSError, ValueError):
            raise MissingSource(f"{path!r} can't be opened") from None
        if not self._is_under_roots(Path(real)):
            raise self._outside_error(path)

    def _is_under_roots(self, real_path: Path) -> bool:
        return any(real_path.is_relative_to(root) for root in self.roots or ())

    def _outside_error(self, path: str) -> UnreadableSource:
        roots = ", ".join(map(str, self.roots or ())) or "none"
        return _unreadable_error(
            path, f"is under none of the folders that sources may be read from (source_roots: {roots})"
        )


UNRESTRICTED = Access()


def is_url(path_or_url: str) -> bool:
    """Whether something is taken for a URL, and not for a path."""
    return "://" in path_or_url


def _open_descriptor(path: str) -> int:
    try:
        # Not blocking, since opening a FIFO waits for its writer; regular files don't care.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise MissingSource(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MissingSource(f"{path} can't be opened: {reason}") from None


def _real_path(descriptor: int, path: str) -> Path:
    """Where an open file lies, whatever links led to it."""
    if PROC_FD.is_dir():
        return (PROC_FD / str(descriptor)).readlink()
    real = Path(os.path.realpath(path))
    try:
        same = os.path.samestat(os.fstat(descriptor), real.stat())
    except OSError:
        same = False
    if not same:
        raise MissingSource(f"{path} changed while it was opened")
    return real


def _unreadable_error(path_or_url: str, reason: str) -> UnreadableSource:
    return UnreadableSource(f"{urls.redact_path(path_or_url)[:200]} {reason}")
