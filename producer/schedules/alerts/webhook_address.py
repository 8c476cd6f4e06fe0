"""The address that a webhook calls: https, and plain http only to this very machine; public, but for what is allowed.

A host's name says nothing of where it leads, so it is the address that is connected to which is asked of.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self
from urllib.parse import urlsplit

from models.errors import UsageError

MAX_URL_LENGTH = 2000

# All that is handed out to be reached from anywhere; the rest of IPv6 is for single links, sites, tests and groups.
GLOBAL_UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")  # an IPv4 address, as networks that have none themselves spell it

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which hosts and networks may be called though they are not public."""

    allowed_hosts: frozenset[str] = frozenset()
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def from_setting(cls, entries: Iterable[str]) -> Self:
        """From the setting: names of hosts, addresses, and networks such as 10.0.0.0/8."""
        hosts, networks = set(), []
        for one in entries:
            try:
                networks.append(ipaddress.ip_network(one.strip("[]"), strict=False))
            except ValueError:
                hosts.add(_normalize_host(one))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, host: str, address: str) -> bool:
        """Whether an address may be connected to, to which a host's name has led."""
        found = _parse_address(address)
        return (
            _normalize_host(host) in self.allowed_hosts
            or any(found in network for network in self.allowed_networks)
            or is_public(found)
        )


def check_webhook_url(url: str) -> str:
    """The URL as it was given; raises UsageError where it can't be called, or would tell its secrets."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # of which only asking says that it is wrong
    except ValueError:
        raise UsageError("webhook is no URL with a host and a port; write https://host/path") from None
    if (
        len(url) > MAX_URL_LENGTH
        or not url.isascii()
        or any(character <= " " or character == "\x7f" for character in url)
    ):
        raise UsageError(
            f"webhook is longer than {MAX_URL_LENGTH} characters, or has blanks in it or what is not ASCII"
        )
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UsageError("webhook names a user or password, which its receiver's logs would show; put it into its path")
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname and _is_localhost(parts.hostname):
        return url
    raise UsageError("webhook is not https; write https://host/path, or http:// to localhost alone")


def is_refused(url: str, address_policy: AddressPolicy) -> bool:
    """Whether a URL by itself, asking nobody, says that its address is not public, nor allowed."""
    host = urlsplit(url).hostname or ""
    try:
        return not address_policy.allows(host, host)
    except ValueError:  # a name: where it leads is seen when it is called
        return _normalize_host(host) in ("localhost", "localhost.localdomain") and not address_policy.allows(
            host, "127.0.0.1"
        )


def is_public(address: Address) -> bool:
    """Whether an address is handed out to be reached from anywhere, whichever way it is spelled."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in NAT64:
        inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    if inner is not None:
        return is_public(inner)
    return address in GLOBAL_UNICAST and address.is_global


def _parse_address(text: str) -> Address:
    found = ipaddress.ip_address(text.partition("%")[0])  # behind it stands by which link
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _normalize_host(host: str) -> str:
    return host.lower().removesuffix(".")


def _is_localhost(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
