"""Posting: one HTTP request, with an end to it, that follows nobody anywhere."""

import http.client
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from threading import Event, Timer
from urllib.parse import urlsplit

SECONDS = 10.0


class NotTaken(Exception):
    """The message was not taken; what is said of it names neither the address nor the message."""


def post(url: str, body: bytes, headers: Mapping[str, str], seconds: float = SECONDS) -> None:
    """Send a body; returns once the other side has answered 2xx.

    Raises NotTaken for any other answer, a redirect too, and where none came in time. Proxies of the environment are
    not asked.
    """
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, seconds)
    # A socket's timeout begins anew with each byte that trickles in: this one does not.
    cut = Event()
    clock = Timer(seconds, _cut, [connection, cut])
    clock.daemon = True
    clock.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"content-type": "application/json", **headers})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        why = "in time" if cut.is_set() or isinstance(error, TimeoutError) else f"({type(error).__name__})"
        raise NotTaken(f"it did not answer {why}") from None
    finally:
        clock.cancel()
        connection.close()
    if cut.is_set():  # half an answer may be read as a whole one
        raise NotTaken("it did not answer in time")
    if not 200 <= status < 300:
        raise NotTaken(f"it answered {status}")


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=seconds)


def _cut(connection: http.client.HTTPConnection, cut: Event) -> None:
    cut.set()
    with suppress(OSError, AttributeError):  # it is closed already, or not yet connected
        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # past TLS, which another thread is reading
