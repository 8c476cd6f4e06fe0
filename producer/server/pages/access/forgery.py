"""Forged requests: an action comes from a form of this server, in the session that the form was made for.

Three things show it, and one alone would do: the cookie, which browsers send from no other site; the headers `Origin`
and `Sec-Fetch-Site`, which pages can't set; and a token in the form that only this session has.
"""

import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request

from models.errors import Forbidden

CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
SECRET_BYTES = 32
OWN_SITES = ("same-origin", "none")

FOREIGN_SITE = "this form was sent from another site; open the page here and repeat the action"
FOREIGN_FORM = "this form is of an earlier session or of another page; load the page again and repeat the action"


class ForgedAction(Forbidden):
    """An action that comes from another site or another session."""

    code = "forged_action"


def check_origin(request: Request) -> None:
    """Raise ForgedAction if a browser says that a request comes from another site.

    The headers of a proxy count, because it may change `Host`; a page of another site can't set them.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in OWN_SITES:
            raise ForgedAction(FOREIGN_SITE)
        return
    origin = request.headers.get("origin")
    if origin is not None and _host(origin) not in _hosts(request):
        raise ForgedAction(FOREIGN_SITE)


def is_foreign(request: Request) -> bool:
    """Whether a browser says that a request comes from another site."""
    try:
        check_origin(request)
    except ForgedAction:
        return True
    return False


def is_from_page_of_ours(request: Request) -> bool:
    """Whether a page of this server led to a request; some browsers are set to tell nobody."""
    referer = request.headers.get("referer")
    return referer is not None and _host(referer) in _hosts(request)


def make_token(secret: bytes) -> str:
    """Return a token for the forms of one page.

    Pages are compressed and repeat what was searched for; a token that stayed the same could be guessed from their
    lengths, as BREACH does. So each page has the secret under another pad.
    """
    pad = secrets.token_bytes(SECRET_BYTES)
    return (pad + _xor(pad, secret)).hex()


def check_token(secret: bytes, sent: object) -> None:
    """Raise ForgedAction if the token of a form is not one of the session.

    secret: `csrf_secret` of the visitor
    sent: the value of the field `csrf_token`, such as the first part of an upload
    """
    try:
        token = bytes.fromhex(sent) if isinstance(sent, str) and len(sent) == 4 * SECRET_BYTES else b""
    except ValueError:
        token = b""
    if not hmac.compare_digest(_xor(token[:SECRET_BYTES], token[SECRET_BYTES:]), secret):
        raise ForgedAction(FOREIGN_FORM)


def has_token_header(request: Request, secret: bytes) -> bool:
    """Whether a request has the token as a header, so that nothing of its body has to be read.

    secret: `csrf_secret` of the visitor

    Raises ForgedAction if the header is wrong, or if the request comes from another site.
    """
    check_origin(request)
    sent = request.headers.get(CSRF_HEADER)
    if sent is None:
        return False
    check_token(secret, sent)
    return True


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=False))


def _hosts(request: Request) -> set[str | None]:
    return {request.headers.get("host"), request.headers.get("x-forwarded-host")} - {None}


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
