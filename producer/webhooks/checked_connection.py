"""A connection to the address that was checked, because a second lookup of the name may return another one.

A socket's timeout restarts with each byte that arrives, so every operation gets the time left of the whole request.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

from httpcore2 import SOCKET_OPTION, NetworkBackend, NetworkStream

from producer.timeouts import call_within
from producer.webhooks.webhook_address import AddressPolicy

# Family, type, protocol and address of one connection attempt, as in `getaddrinfo`.
SocketAddress = tuple[int, int, int, Any]


class AddressRefused(Exception):
    """The host leads to no address that may be called."""


class RequestDeadline:
    """The end of a request, by a clock that is never set back."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """The seconds until the end; raises TimeoutError after it."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class CheckedBackend(NetworkBackend):
    """Resolves a host once, and connects to one of its allowed addresses."""

    def __init__(self, address_policy: AddressPolicy, deadline: RequestDeadline) -> None:
        self._address_policy = address_policy
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Connect to the first allowed address that accepts; raises AddressRefused and OSError."""
        del timeout, local_address, socket_options
        addresses = [
            address
            for address in _resolve(host, port, self._deadline.seconds_left)
            if self._address_policy.allows(host, str(address[3][0]))
        ]
        if not addresses:
            raise AddressRefused
        last_error: OSError = TimeoutError()
        for family, kind, protocol, address in addresses:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._deadline.seconds_left)
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                plain.close()
                last_error = error
            else:
                return _DeadlineStream(plain, self._deadline)
        raise last_error


class _DeadlineStream(NetworkStream):
    """A socket whose operations all end at the request's deadline."""

    def __init__(self, connection: socket.socket, deadline: RequestDeadline) -> None:
        self._socket = connection
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        self._socket.settimeout(self._deadline.seconds_left)
        return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        view = memoryview(buffer)
        while view:
            self._socket.settimeout(self._deadline.seconds_left)
            view = view[self._socket.send(view) :]

    def close(self) -> None:
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> NetworkStream:
        del timeout
        try:
            self._socket.settimeout(self._deadline.seconds_left)
            return _DeadlineStream(
                ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._deadline
            )
        except BaseException:
            self._socket.close()
            raise


def _resolve(host: str, port: int, timeout_seconds: float) -> list[SocketAddress]:
    """Return the addresses of a host."""
    candidates = call_within(
        timeout_seconds, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), "webhook's host"
    )
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in candidates]
