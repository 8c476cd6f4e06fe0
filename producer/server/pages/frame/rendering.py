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
from producer.server.pages.access.visitor import Visitor
from producer.server.pages.frame import formats, static_files, texts

FOLDER = Path(__file__).parents[1] / "templates"
MIN_COMPRESSED_BYTES = 1_000

# No script and no style but our files; no frame around us; forms go nowhere else.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}

# The menu: name, address, and whether only operators have the page.
MENU = (
    ("Overview", "/", False),
    ("Batches", "/batches", False),
    ("Submit", "/submit", False),
    ("Schedules", "/schedules", False),
    ("Pipelines", "/pipelines", False),
    ("Usage", "/usage", False),
    ("Workers", "/workers", True),
    ("Doctor", "/doctor", True),
)


def render(request: Request, visitor: Visitor, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Render a template, a whole page or a part of one.

    template: its path under `templates/`; parts begin with an underscore
    values: what it shows
    """
    text = (
        environment()
        .get_template(template)
        .render(
            request=request, path=request.url.path, visitor=visitor, menu=MENU, version=version.full_version(), **values
        )
    )
    response = HTMLResponse(text, status, HEADERS)
    if len(response.body) >= MIN_COMPRESSED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        response = HTMLResponse(gzip.compress(response.body, 5), status, {**HEADERS, "content-encoding": "gzip"})
    response.headers["vary"] = "accept-encoding, hx-request"
    visitor.set_cookies(response)
    return response


def is_part(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true"


def see_other(request: Request, visitor: Visitor, address: str) -> RedirectResponse | HTMLResponse:
    """Send the browser to another page after an action."""
    if is_part(request):
        response: RedirectResponse | HTMLResponse = HTMLResponse("", 200, {**HEADERS, "hx-redirect": address})
    else:
        response = RedirectResponse(address, 303, HEADERS)
    visitor.set_cookies(response)
    return response


@cache
def environment() -> Environment:
    """The templates with their filters."""
    loader = FileSystemLoader(FOLDER)
    templates = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= formats.FILTERS | texts.FILTERS
    templates.globals["static"] = static_files.address
    templates.globals["query"] = _query
    return templates


def _query(**values: Any) -> str:
    """A query string of the values that are set, such as `?status=failed`."""
    chosen = {name: value for name, value in values.items() if value not in (None, "", False)}
    return f"?{urlencode(chosen, doseq=True)}" if chosen else ""
