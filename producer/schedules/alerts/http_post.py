"""One HTTP POST with a total timeout, to allowed addresses only and without redirects."""

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Timer
from typing import Any
from urllib.parse import urlsplit

from producer.schedules.alerts.webhook_address import AddressPolicy
from producer.timeouts import call_within

TIMEOUT_SECONDS = 10.0
DEFAULT_PORTS = {"https": 443, "http": 80}
PUBLIC_ONLY = AddressPolicy()

# Family, type, protocol and address of one connection attempt, as in `getaddrinfo`.
SocketAddress = tuple[int, int, int, Any]


class DeliveryFailed(Exception):
    """The receiver did not accept the message; the error text names neither the address nor the message."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_seconds: float = TIMEOUT_SECONDS,
    address_policy: AddressPolicy = PUBLIC_ONLY,
) -> None:
    """Send a body; returns after the receiver answers 2xx.

    Raises DeliveryFailed for any other answer, redirects included, on timeout, and if the host resolves to an address
    that is not allowed. Proxies from the environment are ignored.

    url: address of the receiver
    body: content to send
    headers: extra headers
    timeout_seconds: limit for the whole request, seconds
    address_policy: addresses that are allowed although they are not public
    """
    parts = urlsplit(url)
    connection = _WebhookConnection(parts.scheme, parts.hostname or "", parts.port, timeout_seconds, address_policy)
    # A socket's timeout restarts with each byte that arrives, so a timer limits the whole request.
    timed_out = Event()
    timer = Timer(timeout_seconds, _abort_connection, [connection, timed_out])
    timer.daemon = True
    timer.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"content-type": "application/json", **headers})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = "in time" if timed_out.is_set() or isinstance(error, TimeoutError) else f"({type(error).__name__})"
        raise DeliveryFailed(f"it did not answer {reason}") from None
    finally:
        timer.cancel()
        connection.close()
    if timed_out.is_set():  # half an answer may look like a complete one
        raise DeliveryFailed("it did not answer in time")
    if not 200 <= status < 300:
        raise DeliveryFailed(f"it answered {status}")


class _WebhookConnection(http.client.HTTPConnection):
    """Connects to the address that it has checked, because a second lookup of the name may return another one."""

    def __init__(
        self, scheme: str, host: str, port: int | None, timeout_seconds: float, address_policy: AddressPolicy
    ) -> None:
        self.default_port = DEFAULT_PORTS[scheme]
        super().__init__(host, port, timeout=timeout_seconds)
        self._context = ssl.create_default_context() if scheme == "https" else None
        self._deadline = time.monotonic() + timeout_seconds
        self._address_policy = address_policy

    def connect(self) -> None:
        plain = self._connect_socket()
        self.sock = plain  # for `_abort_connection`, which needs the plain socket
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            self.sock = self._context.wrap_socket(plain, server_hostname=self.host)

    def _connect_socket(self) -> socket.socket:
        addresses = [
            address
            for address in _resolve(self.host, self.port, self._seconds_left)
            if self._address_policy.allows(self.host, str(address[3][0]))
        ]
        if not addresses:
            raise DeliveryFailed(
                "its host leads to no public address; where that is meant, name the host in webhook_allowed_hosts"
            )
        last_error: OSError = TimeoutError()
        for family, kind, protocol, address in addresses:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(self._seconds_left)
                connection.connect(address)
            except OSError as error:
                connection.close()
                last_error = error
            else:
                return connection
        raise last_error

    @property
    def _seconds_left(self) -> float:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


def _resolve(host: str, port: int, timeout_seconds: float) -> list[SocketAddress]:
    """Return the addresses of a host."""
    candidates = call_within(
        timeout_seconds, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), "webhook's host"
    )
    return [(family, kind, protocol, address) for family, kind, protocol, _, address in candidates]


def _abort_connection(connection: http.client.HTTPConnection, timed_out: Event) -> None:
    timed_out.set()
    with suppress(OSError, AttributeError, TypeError):  # already closed, or not yet connected
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # bypass TLS, which another thread is reading
