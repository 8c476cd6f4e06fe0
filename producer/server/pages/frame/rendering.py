"""Pages are Jinja templates under `templates/`; everything in them is escaped."""

import gzip
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models import version
from producer.server.pages.access.messages import FlashMessage, Level
from producer.server.pages.access.visitor import Visitor
from producer.server.pages.frame import formats, static_files, texts

FOLDER = Path(__file__).parents[1] / "templates"
MIN_COMPRESSED_BYTES = 1_000

EVERYBODY, SUBMITTERS, OPERATORS = "everybody", "submitters", "operators"

# The menu: name, address, and who has the page.
MENU = (
    ("Overview", "/", EVERYBODY),
    ("Batches", "/batches", EVERYBODY),
    ("Submit", "/submit", SUBMITTERS),
    ("Schedules", "/schedules", EVERYBODY),
    ("Pipelines", "/pipelines", EVERYBODY),
    ("Usage", "/usage", EVERYBODY),
    ("Workers", "/workers", OPERATORS),
    ("Doctor", "/doctor", OPERATORS),
    ("API keys", "/keys", OPERATORS),
)


def render(request: Request, visitor: Visitor | None, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template, a whole page or a part of one; the page's headers are added on its way.

    visitor: None = unknown, so that the page has no menu
    template: its path under `templates/`; parts begin with an underscore
    values: what it shows
    """
    is_whole = not template.rpartition("/")[2].startswith("_")
    text = (
        environment()
        .get_template(template)
        .render(
            request=request,
            path=request.url.path,
            visitor=visitor,
            message=visitor.message if visitor and is_whole else None,
            menu=_menu_of(visitor),
            version=version.full_version(),
            **values,
        )
    )
    response = HTMLResponse(text.encode(errors="replace"), status)  # half a surrogate pair can't be sent
    if len(response.body) >= MIN_COMPRESSED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        response = HTMLResponse(gzip.compress(response.body, 5), status, {"content-encoding": "gzip"})
    response.headers["vary"] = "accept-encoding, hx-request"
    if visitor is not None:
        visitor.set_cookies(response)
        if is_whole:
            visitor.take_message(response)
    return response


def render_part(request: Request, visitor: Visitor, part: str, whole: str, /, **values: Any) -> HTMLResponse:
    """Render a part where htmx asks for one, and otherwise the page that includes it."""
    return render(request, visitor, part if is_part(request) else whole, **values)


def confirm(request: Request, visitor: Visitor, part: str, title: str, **values: Any) -> HTMLResponse:
    """Render what an action affects, with the form that does it: a dialog, or a page.

    part: the template of the form
    title: of the page
    """
    return render_part(request, visitor, part, "frame/confirm.html", part=part, title=title, **values)


def _menu_of(visitor: Visitor | None) -> list[tuple[str, str]]:
    """The names and addresses of the pages that a visitor may open."""
    audiences = {EVERYBODY}
    if visitor is not None and visitor.may_submit:
        audiences.add(SUBMITTERS)
    if visitor is not None and visitor.may_administrate and visitor.is_operator:
        audiences.add(OPERATORS)
    return [(name, address) for name, address, audience in MENU if audience in audiences]


def is_part(request: Request) -> bool:
    """Whether htmx asks for a part of a page; going back in the history wants a whole one."""
    headers = request.headers
    return (
        headers.get("hx-request") == "true"
        and headers.get("hx-request-type") != "full"
        and "hx-history-restore-request" not in headers
    )


def see_other(
    request: Request, visitor: Visitor, address: str, message: str | None = None, level: Level = "good"
) -> RedirectResponse | HTMLResponse:
    """Send the browser to another page after an action.

    message: what the action did, as a sentence that the page shows once
    level: `good`, `warn` or `bad`
    """
    if "hx-request" in request.headers:
        response: RedirectResponse | HTMLResponse = HTMLResponse("", 200, {"hx-redirect": address})
    else:
        response = RedirectResponse(address, 303)
    visitor.set_cookies(response)
    if message:
        visitor.leave_message(response, FlashMessage(message, level))
    return response


@cache
def environment() -> Environment:
    """The templates with their filters."""
    loader = FileSystemLoader(FOLDER)
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= formats.FILTERS | texts.FILTERS
    del templates.filters["truncate"]  # which leaves in characters that nobody sees; `cut` shows them
    templates.globals["static"] = static_files.address
    templates.globals["query"] = _query
    templates.globals["now_milliseconds"] = formats.now_milliseconds
    return templates


def _query(**values: Any) -> str:
    """A query string of the values that are set, such as `?status=failed`."""
    chosen = {name: value for name, value in values.items() if value not in (None, "", False)}
    return f"?{urlencode(chosen, doseq=True)}" if chosen else ""
