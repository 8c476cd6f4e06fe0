"""Signing in and out in a browser, links and forms of other sites, and what the frame does with the keyboard."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from models.db import Database
from producer.tenants import keys
from producer.tenants.keys import KeyRequest
from producer.tenants.principal import Scope
from tests.browser.conftest import FAR_HOST, OpenVisit, stop_clock
from tests.factories.served_app import served


@pytest.fixture
def key(database: Database) -> str:
    return keys.create_key(database, KeyRequest("acme", (Scope.READ, Scope.SUBMIT))).text


@pytest.fixture
def closed(database: Database, key: str) -> Iterator[str]:
    """The address of a server that wants a key."""
    with served(database) as address:
        yield address


@pytest.fixture
def opened(database: Database) -> Iterator[str]:
    """The address of a server without keys."""
    with served(database) as address:
        yield address


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("has_scripts", [True, False])
def test_a_page_asks_for_a_key_and_comes_back(closed: str, visit: OpenVisit, key: str, has_scripts: bool) -> None:
    visited = visit(closed, java_script_enabled=has_scripts)
    visited.expected = ["401"]
    page = visited.open("/batches?status=failed")

    expect(page.get_by_label("API key")).to_be_focused()
    sign_in(page, "bm_wrong")
    expect(page.get_by_role("alert")).to_contain_text("not known here")
    expect(page.get_by_label("API key")).to_have_value("")
    sign_in(page, key)

    expect(page).to_have_url(f"{closed}/batches?status=failed")
    expect(page.locator(".side-foot")).to_contain_text("acme")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{closed}/login")
    visited.open("/batches")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_link_on_another_site_leads_to_the_page(closed: str, visit: OpenVisit, key: str) -> None:
    """Given a session whose cookie the browser withholds from requests of other sites."""
    visited = visit(closed)
    page = visited.open("/login")
    sign_in(page, key)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    page.goto("about:blank")
    page.set_content(f'<a href="{closed}/batches?status=failed">a batch failed</a>')
    page.get_by_role("link").click()

    expect(page).to_have_url(f"{closed}/batches?status=failed")
    expect(page.get_by_role("heading", level=1)).to_have_text("Batches")
    expect(page.locator(".side-foot")).to_contain_text("acme")


def test_such_a_link_signs_nobody_out_over_plain_http(closed: str, visit: OpenVisit, key: str) -> None:
    far = closed.replace("127.0.0.1", FAR_HOST)
    visited = visit(far)
    visited.expected = ["Cross-Origin-Opener-Policy", "/events/"]  # no such header over plain HTTP; streams are left
    page = visited.open("/login")
    sign_in(page, key)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    for path, title in (("/batches?status=failed", "Batches"), ("/", "Overview")):
        page.goto("about:blank")
        page.set_content(f'<a href="{far}{path}">look</a>')
        page.get_by_role("link").click()
        expect(page).to_have_url(f"{far}{path}")
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page.locator(".side-foot")).to_contain_text("acme")


def test_a_form_on_another_site_ends_no_session(closed: str, visit: OpenVisit, key: str) -> None:
    visited = visit(closed)
    visited.expected = ["403"]
    page = visited.open("/login")
    sign_in(page, key)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    page.goto("about:blank")
    page.set_content(
        f'<form method="post" action="{closed}/login"><input name="key" value="x"><button>Go</button></form>'
    )
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("another site")

    visited.open("/batches")
    expect(page.get_by_role("heading", level=1)).to_have_text("Batches")


def test_a_form_on_another_site_does_nothing(closed: str, visit: OpenVisit, key: str) -> None:
    visited = visit(closed)
    visited.expected = ["403"]
    page = visited.open("/login")
    sign_in(page, key)
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    token = page.locator("meta[name=csrf-token]").get_attribute("content")

    page.goto("about:blank")
    fields = f'<input name="csrf_token" value="{token}"><button>Go</button>'
    page.set_content(f'<form method="post" action="{closed}/logout">{fields}</form>')
    page.get_by_role("button").click()
    page.wait_for_url(f"{closed}/**")

    visited.open("/batches")
    expect(page.get_by_role("heading", level=1)).to_have_text("Batches")


def test_the_keyboard_opens_pages_and_dialogs(opened: str, visit: OpenVisit) -> None:
    visited = visit(opened)
    visited.page.clock.install()
    page = visited.open("/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Shortcuts")).to_be_hidden()

    stop_clock(page)  # the letter comes in time
    page.keyboard.press("g")
    page.keyboard.press("b")
    expect(page).to_have_url(f"{opened}/batches")

    page.wait_for_load_state("load")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_an_error_in_place_is_shown_and_nothing_is_lost(opened: str, visit: OpenVisit) -> None:
    visited = visit(opened)
    visited.expected = ["404"]
    page = visited.open("/usage")
    page.evaluate(
        """() => {
            for (const [id, target] of [["in-dialog", "#dialog"], ["in-page", "h1"]]) {
                const link = document.createElement("a");
                Object.assign(link, { id, href: "/batches/none", textContent: id });
                link.setAttribute("hx-get", "/batches/none");
                link.setAttribute("hx-target", target);
                document.querySelector("main").append(link);
                htmx.process(link);
            }
        }"""
    )

    page.locator("#in-dialog").press("Enter")
    dialog = page.locator("#dialog")
    expect(dialog).to_contain_text("no batch")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#in-dialog")).to_be_focused()

    page.locator("#in-page").click()
    expect(page.locator("#notices")).to_contain_text("no batch")
    expect(page.get_by_role("heading", level=1)).to_have_text("Usage")


@pytest.mark.parametrize("is_secure", [True, False])
def test_commands_can_be_copied_also_over_plain_http(closed: str, visit: OpenVisit, is_secure: bool) -> None:
    page = visit(closed, permissions=["clipboard-read", "clipboard-write"]).page
    if not is_secure:
        page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")
    page.clock.install()
    page.goto(f"{closed}/login")

    stop_clock(page)
    page.get_by_role("button", name="Copy").click()

    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()").startswith("batchmill keys create --tenant NAME")
    page.clock.run_for(5_000)
    expect(page.get_by_role("button", name="Copy", exact=True)).to_be_visible()
