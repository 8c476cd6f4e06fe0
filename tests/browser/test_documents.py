"""Messages that somebody pastes are found in the built documents, whatever names they have."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

DOCS = Path(__file__).parents[2] / "docs"
# As they are printed, some of them cut.
PRINTED = (
    ("line 3: has no 'text'; it has: body, id; say which to use: --input text=COLUMN", "has-no-column"),
    ("sentiment-analysis has no parameter 'foo'; it takes: top_k", "has-no-parameter"),
    ("https://example.com/a.jsonl is a URL that sources may not name (source_schemes: none)", "is-a-url-that-sources"),
    ("there is no pipeline 'nope'; did you mean sample-ner? There are: fill-mask, ner", "there-is-no-pipeline"),
    (
        "bad.jsonl was refused and nothing was submitted; mend these rows first:",
        "was-refused-and-nothing-was-submitted",
    ),
    ("`batchmill up` (pid 4711) runs already in /home/me/.batchmill; end it with: batch", "batchmill-up-runs-already"),
    ("u16.csv seems to be UTF-16 without a byte-order mark; save it as UTF-8", "seems-to-be-without-a-byte-order-mark"),
    ("the name of out.xyz does not show its format; call it .jsonl, .csv", "the-name-of-does-not-show-its-format"),
    (
        "batch_06h2ct98mw21jfrrvggs is completed already, so there is nothing to cancel",
        "is-already-so-there-is-nothing",
    ),
)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a build of the page of messages alone, which is opened from disk."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "reference").mkdir()
    shutil.copy(DOCS / "reference" / "error-messages.md", folder / "reference")
    (folder / "index.md").write_text("# Start\n\n```{toctree}\nreference/error-messages\n```\n", "utf-8")
    command = [sys.executable, "-m", "sphinx", "-Q", "-b", "html", "-c", str(DOCS), str(folder), str(folder / "html")]
    subprocess.run(command, cwd=DOCS.parent, check=True, timeout=600)
    return (folder / "html").as_uri()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page; an error of a script fails the test."""
    problems: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert problems == []


def test_the_search_finds_printed_messages(page: Page, site: str) -> None:
    for message, anchor in PRINTED:
        page.goto(f"{site}/search.html")
        page.locator("#search-documentation, input[name=q]").last.fill(message)
        page.keyboard.press("Enter")

        first = page.locator("#search-results li a").first
        expect(first).to_have_attribute("href", re.compile(f"#{anchor}"))


def test_a_pasted_message_leads_to_its_place(page: Page, site: str) -> None:
    page.goto(f"{site}/reference/error-messages.html")
    for message, anchor in PRINTED:
        page.get_by_label("Paste a message").fill(message)

        expect(page.locator(".find-message a").first).to_have_attribute("href", re.compile(f"#{anchor}"))

    page.get_by_label("Paste a message").fill("purple elephants")
    expect(page.locator(".find-message")).to_contain_text("No message on this page is like it.")
