"""Texts that want to be more than text, and how a page must show them."""

from producer.server.pages.frame.texts import UNSEEN
from tests.factories.page_clients import Page, assert_harmless

SCRIPT = "<script>alert(1)</script>"
HOSTILE_NAME = SCRIPT + " \"quoted\" 'single'\nline \u202e \u200b \x1b[31m {{7*7}} 😀"
HOSTILE = HOSTILE_NAME + "x" * 10_000


def assert_shown_as_text(html: str) -> Page:
    """Return a page after a check that nothing of a hostile text runs, or hides or turns what stands around it."""
    page = assert_harmless(html)
    assert SCRIPT not in html
    assert SCRIPT in page.text
    assert [page.text[max(0, found.start() - 60) : found.end() + 20] for found in UNSEEN.finditer(page.text)] == []
    return page
