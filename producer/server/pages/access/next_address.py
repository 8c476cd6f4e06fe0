"""Where a browser goes after signing in: always a page of this server. Pure."""

from urllib.parse import urlencode, urlsplit

FIRST_PAGE = "/"
MAX_CHARACTERS = 2_000
SIGN_IN_PATHS = ("/login", "/logout")


def local_address(value: str | None) -> str:
    """Return an address of this server to go to, or `/` for everything that is none."""
    if value is None or not is_local(value) or urlsplit(value).path in SIGN_IN_PATHS:
        return FIRST_PAGE
    return value


def is_local(value: str) -> bool:
    """Whether an address is one of this server.

    Browsers drop tabs and line breaks from addresses and take a backslash for a slash, so those could lead elsewhere.
    """
    if len(value) > MAX_CHARACTERS or not value.startswith("/") or value.startswith("//"):
        return False
    return "\\" not in value and " " not in value and value.isascii() and value.isprintable()


def address_of(url: str | None) -> str:
    """The path and query of a URL, such as a Referer header, as an address of this server."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return FIRST_PAGE
    return local_address(f"{parts.path}?{parts.query}" if parts.query else parts.path)


def sign_in_address(next_address: str) -> str:
    """The address of the form for signing in, from which one comes back."""
    return "/login" if next_address == FIRST_PAGE else f"/login?{urlencode({'next': next_address})}"
