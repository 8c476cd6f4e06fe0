"""The home folder, and the paths in it that are needed before or without the settings."""

import hashlib
import os
import tempfile
from pathlib import Path

DEFAULT_HOME = "~/.batchmill"
# sun_path holds 108 bytes on Linux and 104 on macOS, including the final NUL.
MAX_SOCKET_PATH_BYTES = 100


def home_of_environment() -> Path:
    """The home folder that the environment names, else the default one."""
    return Path(os.environ.get("BATCHMILL_HOME", DEFAULT_HOME)).expanduser()


def model_hashes_file() -> Path:
    """The file that caches hashes of model folders for the next submission."""
    return home_of_environment() / "model-hashes.json"


def embedded_socket_path(home: Path) -> Path:
    """The embedded Valkey's socket, under home or, if that path is too long, in a private temporary folder."""
    plain = home / "valkey.sock"
    if len(os.fsencode(plain)) <= MAX_SOCKET_PATH_BYTES:
        return plain
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    short = Path(f"batchmill-{os.getuid()}-{digest}") / "valkey.sock"
    temporary = Path(tempfile.gettempdir()) / short
    return temporary if len(os.fsencode(temporary)) <= MAX_SOCKET_PATH_BYTES else Path("/tmp") / short  # noqa: S108
