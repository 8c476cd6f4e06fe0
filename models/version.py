"""The version of this code: the release, and the commit that tells two states of the same release apart.

The wheel's build writes the commit into a file. A checkout asks git, once per process and only where somebody wants to
know: a worker that loads a model, `batchmill --version`, `doctor`.
"""

import functools
import hashlib
import os
import subprocess
from pathlib import Path

VERSION = "0.1.0"  # must equal the version in pyproject.toml; a test compares them

SOURCE_FOLDERS = ("models", "producer", "worker", "migrations")
BUILD_FILE = "build.txt"  # beside this module in the wheel, written by build_hooks/wheel.py
COMMIT_VARIABLE = "BATCHMILL_COMMIT"  # read by the build where there is no git, as in a container
GIT_TIMEOUT_SECONDS = 10.0


@functools.cache
def full_version() -> str:
    """Return the release with its build, such as 0.1.0+g1a2b3c4d5e6f."""
    here = Path(__file__).resolve().parent
    try:
        build = (here / BUILD_FILE).read_text("utf-8").strip()
    except OSError:
        build = describe_build(here.parent)
    return f"{VERSION}+{build}"


def describe_build(checkout: Path) -> str:
    """Return `g` and the commit of a checkout, with `.dirty` if it was changed since; else a hash of the source."""
    return _git_commit(checkout) or f"src{_hash_source(checkout)}"


def _git_commit(checkout: Path) -> str | None:
    if not (checkout / ".git").exists():  # the repository of a folder above is somebody else's
        return None
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        result = subprocess.run(
            command,
            cwd=checkout,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},  # a look must not write to the repository
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    commit = result.stdout.strip()
    return f"g{commit}" if result.returncode == 0 and commit else None


def _hash_source(checkout: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for folder in SOURCE_FOLDERS for path in (checkout / folder).rglob("*.py")):
        digest.update(f"{path.relative_to(checkout)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
