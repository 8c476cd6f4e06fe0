"""Every page, in both colour schemes, on a phone, and with hostile texts."""

import itertools

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import OpenVisit
from tests.browser.seeding import Seeded

MAX_FIRST_LOAD_BYTES = 150_000
AXE_OPTIONS = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
SERIOUS = ("serious", "critical")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: OpenVisit, address: str, seeded: Seeded, scheme: str) -> None:
    visited = visit(address, color_scheme=scheme, reduced_motion="reduce")
    visited.expected = ["404"]
    found = []

    for path in seeded.paths:
        page = visited.open(path)
        page.locator("main").wait_for()
        for violation in Axe().run(page, options=AXE_OPTIONS).response["violations"]:
            if violation["impact"] in SERIOUS:
                targets = [node["target"] for node in violation["nodes"][:3]]
                found.append((path, violation["id"], targets))

    assert found == []


def test_no_page_is_wider_than_a_phone(visit: OpenVisit, address: str, seeded: Seeded) -> None:
    visited = visit(address, viewport={"width": 400, "height": 800})
    visited.expected = ["404"]
    wide = []

    for path in seeded.paths:
        page = visited.open(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 400:
            wide.append((path, width))

    assert wide == []


def test_hostile_texts_are_texts(visit: OpenVisit, address: str, seeded: Seeded) -> None:
    visited = visit(address)

    for path in (f"/batches/{seeded.hostile}", f"/batches/{seeded.hostile}/results", "/batches", "/"):
        page = visited.open(path)
        page.wait_for_load_state("load")
        assert page.locator("script:not([src]), img[src=x], main script").count() == 0
    for position in range(4):
        page = visited.open(f"/batches/{seeded.hostile}/rows/{position}")
        assert page.locator("img[src=x], main script").count() == 0

    visited.open(f"/batches/{seeded.hostile}/results")
    expect(page.locator("main")).to_be_visible()


def test_each_page_has_one_heading_and_headings_in_order(visit: OpenVisit, address: str, seeded: Seeded) -> None:
    visited = visit(address)
    visited.expected = ["404"]
    wrong = []

    for path in seeded.paths:
        page = visited.open(path)
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
        jumps = [pair for pair in itertools.pairwise(levels) if pair[1] > pair[0] + 1]
        if levels.count(1) != 1 or jumps:
            wrong.append((path, levels))

    assert wrong == []


def test_the_first_load_is_small_and_asks_no_other_host(visit: OpenVisit, address: str, seeded: Seeded) -> None:
    for path in ("/", f"/batches/{seeded.failing}"):
        visited = visit(address)
        session = visited.page.context.new_cdp_session(visited.page)
        session.send("Network.enable")
        received = []
        session.on("Network.loadingFinished", lambda event, sizes=received: sizes.append(event["encodedDataLength"]))

        visited.open(path)
        visited.page.wait_for_load_state("load")

        assert 5_000 < sum(received) < MAX_FIRST_LOAD_BYTES
