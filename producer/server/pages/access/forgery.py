"""Forged requests: an action comes from a form of this server, in the session that the form was made for.

Three things show it, and one alone would do: the cookie, which browsers send from no other site; the headers `Origin`
and `Sec-Fetch-Site`, which pages can't set; and a token in the form that only this session has.
"""

import hmac
from urllib.parse import urlsplit

from fastapi import Request

from models.errors import Forbidden

CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
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
    hosts = {request.headers.get("host"), request.headers.get("x-forwarded-host")}
    if origin is not None and _host(origin) not in hosts - {None}:
        raise ForgedAction(FOREIGN_SITE)


def check_token(expected: str, sent: object) -> None:
    """Raise ForgedAction if the token of a form is not that of the session.

    expected: `csrf_token` of the visitor
    sent: the value of the field `csrf_token`, such as the first part of an upload
    """
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), expected.encode()):
        raise ForgedAction(FOREIGN_FORM)


def has_token_header(request: Request, expected: str) -> bool:
    """Whether a request has the token as a header, so that nothing of its body has to be read.

    expected: `csrf_token` of the visitor

    Raises ForgedAction if the header is wrong, or if the request comes from another site.
    """
    check_origin(request)
    sent = request.headers.get(CSRF_HEADER)
    if sent is None:
        return False
    check_token(expected, sent)
    return True


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None
