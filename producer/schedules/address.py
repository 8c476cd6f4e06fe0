"""The address that a webhook calls: https, and plain http only to this very machine."""

import ipaddress
from urllib.parse import urlsplit

from models.errors import UsageError

LONGEST = 2000


def checked(url: str) -> str:
    """The URL as it was given; raises UsageError where it can't be called, or would tell its secrets."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # of which only asking says that it is wrong
    except ValueError:
        raise UsageError("webhook is no URL with a host and a port; write https://host/path") from None
    if len(url) > LONGEST or not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise UsageError(f"webhook is longer than {LONGEST} characters, or has blanks in it or what is not ASCII")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UsageError("webhook names a user or password, which its receiver's logs would show; put it into its path")
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname and _is_this_machine(parts.hostname):
        return url
    raise UsageError("webhook is not https; write https://host/path, or http:// to localhost alone")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
