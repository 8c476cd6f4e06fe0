"""One HTTP POST with a total timeout, to allowed addresses only and without redirects.

It uses httpcore2, the transport of httpx2, which takes a network backend of ours, and knows no proxies or redirects.
"""

import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import httpcore2

from producer.webhooks.checked_connection import AddressRefused, CheckedBackend, RequestDeadline
from producer.webhooks.webhook_address import AddressPolicy

TIMEOUT_SECONDS = 10.0
PUBLIC_ONLY = AddressPolicy()


class DeliveryFailed(Exception):
    """The receiver did not accept the message; the error text names neither the address nor the message."""


class DeliveryTimedOut(DeliveryFailed):
    """The receiver did not answer in time."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_seconds: float = TIMEOUT_SECONDS,
    address_policy: AddressPolicy = PUBLIC_ONLY,
) -> None:
    """Send a body; returns after the receiver answers 2xx, without reading the rest of its answer.

    Raises DeliveryFailed for any other answer, redirects included, on timeout, and if the host resolves to an address
    that is not allowed. Proxies from the environment are ignored.

    url: address of the receiver
    body: content to send
    headers: extra headers
    timeout_seconds: limit for the whole request, seconds
    address_policy: addresses that are allowed although they are not public
    """
    parts = urlsplit(url)
    backend = CheckedBackend(address_policy, RequestDeadline(timeout_seconds))
    all_headers = {"host": parts.netloc, "content-type": "application/json", **headers}
    try:
        with (
            httpcore2.ConnectionPool(_tls_context(parts), network_backend=backend) as pool,
            pool.stream("POST", _core_url(parts), headers=list(all_headers.items()), content=body) as response,
        ):
            status = response.status
    except AddressRefused:
        raise DeliveryFailed(
            "its host leads to no public address; where that is meant, name the host in webhook_allowed_hosts"
        ) from None
    except (OSError, httpcore2.ProtocolError, UnicodeError) as error:
        if isinstance(error, TimeoutError):
            raise DeliveryTimedOut("it did not answer in time") from None
        raise DeliveryFailed(f"it did not answer ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise DeliveryFailed(f"it answered {status}")


def _tls_context(parts: SplitResult) -> ssl.SSLContext | None:
    return ssl.create_default_context() if parts.scheme == "https" else None


def _core_url(parts: SplitResult) -> httpcore2.URL:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore2.URL(
        scheme=parts.scheme.encode(), host=(parts.hostname or "").encode(), port=parts.port, target=target.encode()
    )
