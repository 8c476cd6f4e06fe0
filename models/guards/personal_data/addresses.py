"""E-mail and IP addresses."""

import ipaddress
import re
from collections.abc import Iterator, Sequence

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
MIN_PLAIN_GROUPS, GROUP_DIGITS = 3, 4  # of an IPv6 address without letters; one of two groups begins with a full one


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
    if address != LOOPBACK and not _has_parts_of_ipv6([group for group in address.split(":") if group]):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def _has_parts_of_ipv6(groups: Sequence[str]) -> bool:
    """Tell an address from code and ratios: a::b and [::2] are code, 1::2 is a ratio and 12::34 a slip."""
    digits = "".join(groups)
    if len(groups) < 2 or not re.search("[0-9]", digits):
        return False
    has_letter = re.search("[A-Fa-f]", digits) is not None
    return has_letter or len(groups) >= MIN_PLAIN_GROUPS or len(groups[0]) == GROUP_DIGITS
