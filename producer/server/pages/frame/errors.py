"""Errors as people see them: a page, or a notice where htmx asked for a part. The error itself is the API's."""

import json
from dataclasses import dataclass, replace

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from producer.server.errors import NO_ROUTE
from producer.server.pages.access.forgery import FOREIGN_SITE, ForgedAction, is_foreign
from producer.server.pages.access.messages import FlashMessage
from producer.server.pages.access.next_address import FIRST_PAGE, address_of, is_local, sign_in_address
from producer.server.pages.access.visitor import (
    NOBODY,
    CookieWithheld,
    Visitor,
    is_link_of_other_site,
    recall_visitor,
    visitor_with,
)
from producer.server.pages.frame import texts
from producer.server.pages.frame.rendering import is_part, render

NOTICES = "#notices"
IN_DIALOG = "dialog#dialog"  # as htmx names the target
RELOAD_SECONDS = 5  # until a page comes again that the database did not answer

TITLES = {
    403: "Not allowed",
    404: "Not found",
    405: "Not found",
    409: "This contradicts an earlier request",
    413: "Too large",
    429: "Too many requests",
    500: "Something went wrong",
    503: "Not available now",
}
# In place of what the API says about routes.
MESSAGES = {
    "not_found": "there is no page at this address; the link may be of another version, or have a part too few",
    "method_not_allowed": "this address takes what its form sends, and shows nothing; go back and use the form",
}
NOT_SIGNED_IN = "Nothing was done, because you are not signed in. Sign in, then repeat the action."
OTHER_TITLE = "This request can't be answered"


@dataclass(frozen=True, slots=True)
class PageError:
    """An error that a page shows.

    retry_seconds: after which the same request may succeed
    """

    status: int
    code: str
    message: str
    retry_seconds: int | None = None

    @classmethod
    def parse(cls, status: int, body: bytes, retry_after: str | None) -> "PageError | None":
        """Read an error as the API sends it; None = it is none."""
        try:
            error = json.loads(body)["error"]
            message = str(error["message"])
        except (ValueError, KeyError, TypeError):
            return None
        if status == 405 or message == NO_ROUTE:
            message = MESSAGES[str(error.get("code"))]
        seconds = int(retry_after) if retry_after and retry_after.isdecimal() else None
        return cls(status, str(error.get("code")), texts.sentence(message), seconds)

    @property
    def title(self) -> str:
        """The heading."""
        return TITLES.get(self.status, OTHER_TITLE)

    @property
    def is_outage(self) -> bool:
        """Whether the same request succeeds once the database answers."""
        return self.status == 503


def error_page(request: Request, error: PageError) -> Response:
    """Return the answer that a browser gets."""
    if error.status == 401:
        return _reload(request) if error.code == CookieWithheld.code else _ask_to_sign_in(request, error)
    visitor = recall_visitor(request)
    if is_part(request):
        return _notice(request, visitor, error)
    is_action = request.method not in ("GET", "HEAD")
    reloads = error.is_outage and not is_action
    back = _back(request)
    # The form of an action stands at its address, while the address of a page would only show the same error again.
    leads_back = back != FIRST_PAGE and (is_action or back != _own_address(request))
    values = {"error": error, "reloads": reloads, "back": back if leads_back else None}
    response = render(request, visitor, "frame/error.html", error.status, **values)
    if reloads:
        response.headers["refresh"] = str(RELOAD_SECONDS)
    return response


def _notice(request: Request, visitor: Visitor | None, error: PageError) -> Response:
    """A dialog shows the error itself; elsewhere it stands above the page, and what was there stays."""
    if request.headers.get("hx-target") == IN_DIALOG:
        return render(request, visitor, "frame/_dialog_error.html", error.status, error=error, reloads=False)
    response = render(request, visitor, "frame/_error.html", error.status, error=error, reloads=False)
    response.headers["hx-retarget"] = NOTICES
    response.headers["hx-reswap"] = "innerHTML"
    return response


def _ask_to_sign_in(request: Request, error: PageError) -> Response:
    is_action = request.method not in ("GET", "HEAD")
    if is_action and is_foreign(request):
        return error_page(request, replace(error, status=403, code=ForgedAction.code, message=FOREIGN_SITE))
    response: Response
    if "hx-request" in request.headers:
        address = sign_in_address(address_of(request.headers.get("hx-current-url")))
        response = HTMLResponse("", 401, {"hx-redirect": address})
    elif is_action:
        response = RedirectResponse(sign_in_address(address_of(request.headers.get("referer"))), 303)
    else:
        return RedirectResponse(sign_in_address(_own_address(request)), 303)
    if is_action:
        visitor = visitor_with(request, NOBODY)
        visitor.set_cookies(response)
        visitor.leave_message(response, FlashMessage(NOT_SIGNED_IN, "warn"))
    return response


def _reload(request: Request) -> Response:
    """Load the same address from a page of ours: then the browser sends its cookie, which links elsewhere don't do."""
    address = _own_address(request)
    if not is_link_of_other_site(request):  # it may be none; the form for signing in sends who has a session on
        address = sign_in_address(address)
    response = render(request, None, "frame/reload.html", address=address)
    response.headers["refresh"] = f"0; url={address}"
    return response


def _own_address(request: Request) -> str:
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
    address = f"{path}?{query}" if query else path
    return address if is_local(address) else FIRST_PAGE


def _back(request: Request) -> str:
    """Where the form or the link was."""
    return address_of(request.headers.get("referer"))
