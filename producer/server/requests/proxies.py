"""Proxies in front of the server: whose word on the address and the scheme of a client is believed. Pure."""

import ipaddress
from collections.abc import Iterable


def networks_of(addresses: Iterable[str]) -> list[str]:
    """Return the networks of trusted proxies, as uvicorn's layer for their headers takes them.

    A server that listens on `::` sees IPv4 addresses in the form of IPv6, so that each is there in both forms.

    addresses: addresses and networks, as the setting `serve_trusted_proxies` has them
    """
    networks = []
    for address in addresses:
        network = ipaddress.ip_network(address, strict=False)
        networks.append(str(network))
        if network.version == 4:
            networks.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return networks
