"""The rules for webhook addresses: https, or http to localhost, and public unless allowed.

The rules check the address that is connected to, because a host's name may resolve to any address.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self
from urllib.parse import urlsplit

from models.errors import UsageError
from models.settings import Settings

MAX_URL_LENGTH = 2000

# All globally routed addresses; the rest of IPv6 is for single links, sites, tests and multicast.
GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")  # IPv4 addresses as IPv6-only networks write them

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Hosts and networks that may be called although they are not public."""

    allowed_hosts: frozenset[str] = frozenset()
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def from_setting(cls, entries: Iterable[str]) -> Self:
        """Parse the setting: host names, addresses, and networks such as 10.0.0.0/8."""
        hosts, networks = set(), []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                hosts.add(_normalize_host(entry))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: str, address: str) -> bool:
        """Return whether `address`, to which `host` resolved, may be connected to."""
        target = _parse_address(address)
        return (
            _normalize_host(host) in self.allowed_hosts
            or any(target in network for network in self.allowed_networks)
            or is_public(target)
        )


def check_webhook_url(url: str) -> str:
    """Return the URL unchanged; raises UsageError if it cannot be called or would reveal secrets."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # an invalid port raises only on access
    except ValueError:
        raise _refusal("webhook is no URL with a host and a port; write https://host/path") from None
    if (
        len(url) > MAX_URL_LENGTH
        or not url.isascii()
        or any(character <= " " or character == "\x7f" for character in url)
    ):
        raise _refusal(f"webhook is longer than {MAX_URL_LENGTH} characters, or has blanks in it or what is not ASCII")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise _refusal("webhook names a user or password, which its receiver's logs would show; put it into its path")
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname and _is_localhost(parts.hostname):
        return url
    raise _refusal("webhook is not https; write https://host/path, or http:// to localhost alone")


def _refusal(message: str) -> UsageError:
    return UsageError(message, param="webhook_url")


def find_warnings(url: str, settings: Settings) -> list[str]:
    """Return a sentence for each thing that this machine lacks to call a webhook; those that send may have it."""
    warnings = []
    if settings.webhook_secret is None:
        warnings.append("webhook_secret is not set here; the machines that send webhooks need it, or nothing is sent")
    if is_refused(url, AddressPolicy.from_setting(settings.webhook_allowed_hosts)):
        warnings.append(
            "the webhook's address is not public; the machines that send webhooks need it in webhook_allowed_hosts"
        )
    return warnings


def check_allowed(url: str, settings: Settings) -> str:
    """Return the URL unchanged; raises UsageError if it can't be called from here, as a server's clients must know.

    A name is resolved and checked only on delivery.
    """
    check_webhook_url(url)
    if is_refused(url, AddressPolicy.from_setting(settings.webhook_allowed_hosts)):
        raise UsageError(
            "webhook's address is not public; use a public one, or the operator allows it in webhook_allowed_hosts"
        )
    return url


def is_refused(url: str, address_policy: AddressPolicy) -> bool:
    """Return whether a URL is refused without a lookup: its address is neither public nor allowed."""
    host = urlsplit(url).hostname or ""
    try:
        return not address_policy.allows(host, _old_notation(host) or host)
    except ValueError:  # a name, which is resolved and checked on delivery
        return _normalize_host(host) in ("localhost", "localhost.localdomain") and not address_policy.allows(
            host, "127.0.0.1"
        )


def is_public(address: Address) -> bool:
    """Return whether an address is globally reachable, in any of its notations."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in NAT64:
        inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if inner is not None:
        return is_public(inner)
    return address in GLOBAL_UNICAST and address.is_global


def _old_notation(host: str) -> str | None:
    """Return the IPv4 address that resolvers read in notations such as 2130706433, 0x7f.1 and 0177.0.0.1."""
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


def _parse_address(text: str) -> Address:
    address = ipaddress.ip_address(text.partition("%")[0])  # after "%" comes the zone ID of the link
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _normalize_host(host: str) -> str:
    return host.lower().removesuffix(".")


def _is_localhost(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
