"""The sockets that a server listens on, opened before anything else so that a taken port is reported at once."""

import errno
import socket
from collections.abc import Sequence
from contextlib import suppress

from models.errors import UsageError

BACKLOG = 1024


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host, such as both of `localhost`.

    port: 0 = any free one
    Raises UsageError.
    """
    opened: list[socket.socket] = []
    try:
        for family, _, _, _, address in _resolve(host, port):
            chosen = opened[0].getsockname()[1] if opened and not port else port
            opened.append(_listen(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        for listener in opened:
            listener.close()
        raise UsageError(_explain(host, port, error)) from None
    return opened


def format_address(listener: socket.socket, host: str, *, has_tls: bool) -> str:
    """The URL of a server, such as `http://127.0.0.1:8000`."""
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if has_tls else 'http'}://{name}:{listener.getsockname()[1]}"


def _resolve(host: str, port: int) -> Sequence[tuple[int, int, int, str, tuple[object, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Otherwise a response waits up to 40 ms for the client to confirm its headers; asyncio
        # sets it only on sockets that name their protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            with suppress(OSError):  # `::` would take the port of IPv4 too, which is listened on apart
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _explain(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"there is no host {host[:80]!r} to listen on; name an address of this machine: --host 127.0.0.1"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host[:80]} is taken by another process; name another: --port {port + 1}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host[:80]} is no address of this machine; name another: --host 127.0.0.1"
    return f"port {port} of {host[:80]} can't be listened on: {error.strerror}; name another: --port 8000"
