"""Work that the first call of each page would wait for: most of it is done by a thread once the server listens."""

import threading
from contextlib import suppress

from fastapi import FastAPI
from jinja2 import TemplateError
from sqlalchemy.orm import configure_mappers

from producer.server.pages.frame import static_files
from producer.server.pages.frame.rendering import environment

NOWHERE = {"type": "http", "method": "GET", "path": "/nowhere", "root_path": "", "headers": []}


def build_routes(app: FastAPI) -> None:
    """Let FastAPI prepare the parameters of all routes, as it would when the first request looks for its own."""
    for route in app.router.routes:
        route.matches(dict(NOWHERE))


def start() -> None:
    """Begin, beside the first requests; the process may end meanwhile."""
    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()


def warm_up() -> None:
    """Compile all templates, compress what browsers load, and prepare the tables' mappers: half a second in all."""
    configure_mappers()
    static_files.load_files()
    templates = environment()
    for name in templates.list_templates():
        with suppress(TemplateError):  # its page reports it
            templates.get_template(name)
