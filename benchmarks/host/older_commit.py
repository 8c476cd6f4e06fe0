"""The files of an older commit, into which this benchmark is copied, so that both run the same measurement."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The last commit that decoded, encoded and laid out every row by itself.
LAST_ROW_BY_ROW = "674adb8f2ccfa626774491a5f7da9c2091988935"


def extract(commit: str, folder: Path) -> str:
    """Write the commit's files and this benchmark into the folder, and return the commit's hash.

    Raises RuntimeError with git's words if this checkout does not have the commit.
    """
    try:
        resolved = _git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()
        archive = _git("archive", "--format=tar", resolved)
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        raise RuntimeError(detail.decode(errors="replace").strip()) from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    room = Path(__file__).parent
    shutil.rmtree(folder / "benchmarks" / room.name, ignore_errors=True)
    shutil.copytree(room, folder / "benchmarks" / room.name)
    return resolved


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout
