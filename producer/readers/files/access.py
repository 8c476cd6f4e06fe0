"""Access rules limit sources to files under the allowed roots, and to URLs of the allowed schemes."""

import json
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
PROC_FD = Path("/proc/self/fd")  # on Linux: links to the files that this process has open
GLOB_CHARACTERS = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Access:
    """The access rules of sources.

    roots: the folders whose files may be read; None = any file.
    schemes: the schemes of URLs that may be read.
    timeout_seconds: the time in which each call for a URL must return data.
    """

    roots: tuple[Path, ...] | None = None
    schemes: frozenset[str] = frozenset()
    timeout_seconds: float = Settings.model_fields["source_timeout_seconds"].default

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The rules that the operator has set."""
        roots = settings.source_roots
        return cls(
            None if roots is None else tuple(Path(os.path.realpath(root.expanduser())) for root in roots),
            frozenset(scheme.lower().removesuffix("://") for scheme in settings.source_schemes),
            settings.source_timeout_seconds,
        )

    def resolve(self, path_or_url: str) -> str:
        """The path or URL if it may be read, without file://, or with its scheme in small letters.

        Raises UnreadableSource otherwise. Links are followed and checked when the path is opened.
        """
        if not is_url(path_or_url):
            self._check_roots(path_or_url)
            return path_or_url
        scheme, _, rest = path_or_url.partition("://")
        if "::" in path_or_url:  # fsspec's syntax for reading one file system through another
            raise _unreadable_error(path_or_url, "leads through several file systems; name the file itself")
        if scheme.lower() in LOCAL_SCHEMES:
            if not rest.startswith("/"):
                raise _unreadable_error(
                    path_or_url, f"names no file of this machine; write it such as {scheme.lower()}:///data/a.jsonl"
                )
            self._check_roots(rest)
            return rest
        if not SCHEME_PATTERN.fullmatch(scheme.lower()) or scheme.lower() not in self.schemes:
            raise self._scheme_error(path_or_url, scheme.lower())
        return f"{scheme.lower()}://{rest}"  # packages know their schemes in small letters only

    def open_file(self, path: str) -> BinaryIO:
        """Open a local file; raises MissingSource, or UnreadableSource if it is not a regular file under the roots.

        The open file is checked, and not the path, which may change in between.
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
        """Raise UnreadableSource for a path outside the roots, whether or not it exists."""
        if self.roots is None:
            return
        prefix = GLOB_CHARACTERS.split(path, maxsplit=1)[0]
        folder = path if prefix == path else os.path.dirname(prefix)  # noqa: PTH120 (a Path would drop a final slash)
        try:
            real = os.path.realpath(folder or ".")
        except (OSError, ValueError):
            raise MissingSource(f"{path!r} can't be opened") from None
        if not self._is_under_roots(Path(real)):
            raise self._outside_error(path)

    def _is_under_roots(self, real_path: Path) -> bool:
        return any(real_path.is_relative_to(root) for root in self.roots or ())

    def _scheme_error(self, url: str, scheme: str) -> UnreadableSource:
        allowed = ", ".join(sorted(self.schemes)) or "none"
        advice = ""
        if SCHEME_PATTERN.fullmatch(scheme):
            setting = json.dumps(sorted({*self.schemes, scheme}))
            advice = f"; the operator allows it by source_schemes = {setting} in batchmill.toml"
        return _unreadable_error(url, f"is a URL that sources may not name (source_schemes: {allowed}){advice}")

    def _outside_error(self, path: str) -> UnreadableSource:
        roots = ", ".join(map(str, self.roots or ())) or "none"
        return _unreadable_error(path, f"is not in a folder that sources may be read from (source_roots: {roots})")


UNRESTRICTED = Access()


def is_url(path_or_url: str) -> bool:
    """Whether the text is a URL rather than a path."""
    return "://" in path_or_url


def _open_descriptor(path: str) -> int:
    try:
        # Non-blocking, because opening a FIFO would wait for its writer; regular files ignore it.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise MissingSource(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise MissingSource(f"{path} can't be opened: {reason}") from None


def _real_path(descriptor: int, path: str) -> Path:
    """The real path of an open file, with all links resolved."""
    if PROC_FD.is_dir():
        return (PROC_FD / str(descriptor)).readlink()
    real = Path(os.path.realpath(path))
    try:
        is_same = os.path.samestat(os.fstat(descriptor), real.stat())
    except OSError:
        is_same = False
    if not is_same:
        raise MissingSource(f"{path} changed while it was opened")
    return real


def _unreadable_error(path_or_url: str, reason: str) -> UnreadableSource:
    return UnreadableSource(f"{urls.redact_path(path_or_url)[:200]} {reason}")
