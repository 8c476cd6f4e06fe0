"""Words that the project does without: metaphors, words with two meanings, and habits that slow readers down."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

BANNED = (
    "anew",
    "babysit",
    "bell",
    "bells",
    "buried",
    "bury",
    "casualties",
    "comes to",
    "crowd",
    "doorbell",
    "duties",
    "duty",
    "foreman",
    "gone astray",
    "kin",
    "lapsed",
    "mourn",
    "of its own",
    "rehearsal",
    "rung",
    "said",
    "told",
    "twins",
    "whoever",
)
WORDS = re.compile(rf"(?<![\w'])({'|'.join(BANNED)})(?![\w'])", re.IGNORECASE)

# The changelog lists old names beside new ones.
EXEMPT = {"CHANGELOG.md", "0026-rooms-and-names.md"}


def pages() -> Iterator[Path]:
    """The sources of the packages and every document."""
    for package in ("models", "producer", "worker", "migrations", "build_hooks"):
        yield from (ROOT / package).rglob("*.py")
    yield ROOT / "batchmill.py"
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md"):
        yield from (path for path in ROOT.glob(pattern) if path.name not in EXEMPT)


def test_no_banned_word_is_used() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}"
        for path in pages()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in WORDS.finditer(line)
    ]

    assert found == []
