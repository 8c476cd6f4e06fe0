"""Posting: one HTTP request, with an end to it, to an address that it may reach, and that follows nobody anywhere."""

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Timer
from typing import Any
from urllib.parse import urlsplit

from producer.schedules.alerts.webhook_address import Reach
from producer.timeouts import call_within

SECONDS = 10.0
PORTS = {"https": 443, "http": 80}
PUBLIC = Reach()

# Family, type, protocol and address of one way to connect, as `getaddrinfo` has it.
Way = tuple[int, int, int, Any]


class NotTaken(Exception):
    """The message was not taken; what is said of it names neither the address nor the message."""


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float = SECONDS, reach: Reach = PUBLIC) -> None:
    """Send a body; returns once the other side has answered 2xx.

    Raises NotTaken for any other answer, a redirect too, where none came in time, and where the host leads to an
    address that is out of reach. Proxies of the environment are not asked.
    """
    parts = urlsplit(url)
    connection = _Connection(parts.scheme, parts.hostname or "", parts.port, seconds, reach)
    # A socket's timeout begins anew with each byte that trickles in: this one does not.
    cut = Event()
    clock = Timer(seconds, _cut, [connection, cut])
    clock.daemon = True
    clock.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"content-type": "application/json", **headers})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        why = "in time" if cut.is_set() or isinstance(error, TimeoutError) else f"({type(error).__name__})"
        raise NotTaken(f"it did not answer {why}") from None
    finally:
        clock.cancel()
        connection.close()
    if cut.is_set():  # half an answer may be read as a whole one
        raise NotTaken("it did not answer in time")
    if not 200 <= status < 300:
        raise NotTaken(f"it answered {status}")


class _Connection(http.client.HTTPConnection):
    """Connects to the very address that it has asked of: a name looked up twice may lead to two."""

    def __init__(self, scheme: str, host: str, port: int | None, seconds: float, reach: Reach) -> None:
        self.default_port = PORTS[scheme]
        super().__init__(host, port, timeout=seconds)
        self._context = ssl.create_default_context() if scheme == "https" else None
        self._deadline = time.monotonic() + seconds
        self._reach = reach

    def connect(self) -> None:
        plain = self._connected()
        self.sock = plain  # where whoever cuts the connection finds it
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)

    def _connected(self) -> socket.socket:
        ways = [way for way in _ways(self.host, self.port, self._left) if self._reach.allows(self.host, str(way[3][0]))]
        if not ways:
            raise NotTaken(
                "its host leads to no public address; where that is meant, name the host in webhook_allowed_hosts"
            )
        refused: OSError = TimeoutError()
        for family, kind, protocol, address in ways:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._left)
                plain.connect(address)
            except OSError as error:
                plain.close()
                refused = error
            else:
                return plain
        raise refused

    @property
    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _ways(host: str, port: int, seconds: float) -> list[Way]:
    """Where a name leads."""
    known = call_within(seconds, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), "webhook's host")
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in known]


def _cut(connection: http.client.HTTPConnection, cut: Event) -> None:
    cut.set()
    with suppress(OSError, AttributeError, TypeError):  # it is closed already, or not yet connected
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # past TLS, which another thread is reading
