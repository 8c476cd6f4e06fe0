"""A browser, systems to look at, and what must hold whenever a page is open."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response, expect, sync_playwright

from models.db import Database
from models.schema import upgrade
from tests.browser.seeding import Seeded, seed
from tests.factories.served_app import served

SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"
FAR_HOST = "pages.example"  # to which browsers send no Sec-Fetch headers over plain HTTP, as to other machines
WIDTH, HEIGHT = 1280, 800
TIMEOUT_MS = 180_000.0  # of each wait; a busy machine may take long
expect.set_options(timeout=TIMEOUT_MS)

# Recorded before anything of the page runs; console messages alone name no directive.
RECORD_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


@dataclass
class Visit:
    """A page that is open, with everything that it did.

    problems: errors, dialogs and requests to other hosts
    expected: parts of messages of the browser that a test provokes
    """

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Open a path of the system."""
        self.page.goto(f"{self.address}{path}")
        return self.page

    def check(self) -> None:
        """Assert that the page did nothing that it must not do."""
        unexpected = [text for text in self.problems if not any(part in text for part in self.expected)]
        assert unexpected == []


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        options.append(f"--host-resolver-rules=MAP {FAR_HOST} 127.0.0.1")
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    """Yield a database with everything that pages show, hostile texts among it; tests may not change it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('pages') / 'pages.db'}"
    upgrade(url)
    database = Database(url)
    yield seed(database)
    database.close()


@pytest.fixture(scope="session")
def address(seeded: Seeded) -> Iterator[str]:
    """Yield the address of a server over the seeded database."""
    with served(seeded.database) as address:
        yield address


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Yield an empty database of one test."""
    url = f"sqlite:///{tmp_path / 'own.db'}"
    upgrade(url)
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def own_address(database: Database) -> Iterator[str]:
    """Yield the address of a server over the test's database; name it before `visit`, which closes the pages first."""
    with served(database) as address:
        yield address


OpenVisit = Callable[..., Any]


@pytest.fixture
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenVisit]:
    """Return a function that begins a visit of an address; what it did is checked at the end of the test."""
    visits: list[Visit] = []
    contexts: list[BrowserContext] = []

    def begin(address: str, **options: Any) -> Visit:
        chosen: dict[str, Any] = {"viewport": {"width": WIDTH, "height": HEIGHT}, "locale": "en-GB"}
        context = browser.new_context(**chosen | options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        context.add_init_script(RECORD_VIOLATIONS)
        visit = Visit(context.new_page(), address)
        _record(visit)
        visits.append(visit)
        return visit

    yield begin
    for number, visited in enumerate(visits):
        save_screenshot(visited.page, f"{request.node.name}-{number}")
    for context in contexts:
        context.close()
    for visited in visits:
        visited.check()


def stop_clock(page: Page) -> None:
    """Let no time pass in the page until the test says so: what shows for seconds stays."""
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))


def save_screenshot(page: Page, name: str) -> None:
    """Keep what a page looked like, for whoever reads the result."""
    SCREENSHOTS.mkdir(exist_ok=True)
    safe = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:100]
    page.screenshot(path=SCREENSHOTS / f"{safe}.png")


def _record(visit: Visit) -> None:
    host = urlsplit(visit.address).netloc

    def note_request(request: Request) -> None:
        if urlsplit(request.url).netloc != host and not request.url.startswith(("data:", "blob:", "about:")):
            visit.problems.append(f"request to {request.url}")

    page = visit.page
    page.on("console", lambda message: message.type == "error" and visit.problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: visit.problems.append(f"error: {error}"))
    page.on("request", note_request)
    page.on("response", lambda response: visit.responses.append(response))
    page.on("dialog", lambda dialog: (visit.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
