"""E-mail and IP addresses."""

import ipaddress
import re
from collections.abc import Iterator

import re2

from models.guards.spans import Place, merge_places

# RE2, because the part before the @ has no bound: any other engine would try each of its characters as the first.
_EMAIL = re2.compile(r"[\pL\pM\pN._%+'\-]+@(?:[\pL\pM\pN\-]+\.)+(?:(?i:xn)--[\pL\pN\-]*[\pL\pN]|\pL[\pL\pM]+)")
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")  # logo@2x.png is a file

_IPV4 = re.compile(r"(?<![0-9A-Za-z_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_]|\.[0-9])")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?:(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z_])"
)
LOOPBACK = "::1"


def find_emails(text: str) -> Iterator[Place]:
    """E-mail addresses of any script with a dot in the domain.

    Quoted names and "name at example dot com" are not found.
    """
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        if not match.group().lower().endswith(_IMAGES):
            yield match.span()


def find_ips(text: str) -> Iterator[Place]:
    """IPv4 and IPv6 addresses. A version of four numbers looks like one, unless a letter stands before it."""
    return merge_places(sorted([*_find_ipv4(text), *_find_ipv6(text)]))  # an IPv6 address may end in an IPv4 address


def _find_ipv4(text: str) -> Iterator[Place]:
    for match in _IPV4.finditer(text):
        if all(int(part) <= 255 for part in match[0].split(".")):
            yield match.span()


def _find_ipv6(text: str) -> Iterator[Place]:
    for match in _IPV6.finditer(text):
        address = match[0]
        if address.endswith(":") and not address.endswith("::"):
            address = address[:-1]  # of the sentence
        if _is_ipv6(address):
            yield match.start(), match.start() + len(address)


def _is_ipv6(address: str) -> bool:
    groups = [group for group in address.split(":") if group]
    # a::b and [::2] are code; an address of a machine has two groups and a digit.
    if address != LOOPBACK and (len(groups) < 2 or not any(character.isdigit() for character in address)):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True
