"""The HTTP server that `up` starts: one child on this machine's loopback address.

The parent opens the socket and hands it down, so that the address it prints stays true when the child is restarted.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from models import packages
from models.errors import UsageError
from models.processes import sockets
from models.settings import Settings
from worker.supervisor.supervisor import ChildSpec

HOST = "127.0.0.1"
PORTS = 10  # how many ports are tried

ADVICE = (
    "without the extra `serve` there are no pages and no HTTP API; in the checkout, "
    "run: pip install -c constraints.txt '.[serve]'"
)


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """The server to start, if any, and what to print about it.

    listener: the socket, which must stay open while the child may be restarted
    """

    specs: tuple[ChildSpec, ...] = ()
    notices: tuple[str, ...] = ()
    listener: socket.socket | None = None

    def close(self) -> None:
        """Close the socket."""
        if self.listener is not None:
            self.listener.close()


def plan_server(settings: Settings) -> ServerProcess:
    """Open the socket of a server at the first free port from `serve_port` on; 0 = no server."""
    if settings.serve_port == 0:
        return ServerProcess()
    if not packages.has_server():
        return ServerProcess(notices=(ADVICE,))
    ports = range(settings.serve_port, min(settings.serve_port + PORTS, 65_536))
    listener = _open_first(ports)
    if listener is None:
        taken = f"the ports {ports[0]} to {ports[-1]} are taken; set BATCHMILL_SERVE_PORT to another"
        return ServerProcess(notices=(f"warning: there are no pages and no HTTP API: {taken}",))
    descriptor = listener.fileno()
    arguments = ("serve", "--host", HOST, "--socket", str(descriptor), "--exit-with-parent")
    spec = ChildSpec("server", "batchmill", arguments, descriptors=(descriptor,), may_be_refused=True)
    address = sockets.format_address(listener, HOST, has_tls=settings.serve_tls_cert is not None)
    return ServerProcess((spec,), (f"Pages and HTTP API: {address}",), listener)


def _open_first(ports: Sequence[int]) -> socket.socket | None:
    for port in ports:
        try:
            return sockets.open_sockets(HOST, port)[0]
        except UsageError:
            continue
    return None
