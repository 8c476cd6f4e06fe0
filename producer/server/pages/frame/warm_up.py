"""Work that the first call of each page would wait for: a thread does it once the server listens."""

import threading
from contextlib import suppress

from jinja2 import TemplateError
from sqlalchemy.orm import configure_mappers

from producer.server.pages.frame import static_files
from producer.server.pages.frame.rendering import environment


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
