"""The commands, programs and queries of the README and the tutorials, run as they stand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.page_session import ROOT, PageSession, read_blocks

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.fixture
def session(tmp_path: Path) -> Iterator[PageSession]:
    session = PageSession(tmp_path)
    yield session
    session.close()


@pytest.mark.timeout(900)  # several starts of Python and torch, one after the other
@pytest.mark.parametrize("page", [ROOT / "README.md", *TUTORIALS], ids=lambda page: page.stem)
def test_what_a_page_shows_happens(page: Path, session: PageSession) -> None:
    blocks = read_blocks(page)

    for block in blocks:
        session.run(block)

    assert {block.language for block in blocks} >= {"console", "python"}
