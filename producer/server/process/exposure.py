"""Exposure: which addresses a server may listen on, given keys and TLS. Pure."""

import ipaddress
from dataclasses import dataclass

from models.errors import UsageError


@dataclass(frozen=True, slots=True)
class Exposure:
    """What decides whether an address is safe to listen on.

    has_keys: whether API keys exist, so that requests need one
    has_tls: whether the server encrypts connections
    is_behind_proxy: whether the operator says that a proxy in front encrypts them
    """

    host: str
    has_keys: bool
    has_tls: bool
    is_behind_proxy: bool


def check_exposure(exposure: Exposure) -> None:
    """Raise UsageError, with what to do, if anybody could read or send data without a key or without encryption."""
    if is_loopback(exposure.host):
        return
    if not exposure.has_keys:
        raise UsageError(
            f"without API keys the server listens only on this machine, not on {exposure.host[:80]}; make one first: "
            "batchmill keys create --tenant NAME --scope read,submit"
        )
    if not (exposure.has_tls or exposure.is_behind_proxy):
        raise UsageError(
            f"on {exposure.host[:80]} keys would cross the network unencrypted; give --tls-cert and --tls-key, or "
            "--insecure if a proxy in front of the server ends TLS"
        )


def is_loopback(host: str) -> bool:
    """Whether a host's name or address reaches only this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
