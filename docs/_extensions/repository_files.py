"""Sphinx: documents that stand outside docs/ become parts of its pages, and links to other files become paths.

In the repository, a page such as docs/explanation/architecture.md links to ARCHITECTURE.md. When the pages are built,
the text of that file follows there, and links to the file lead to the page. A link to a file that is no document, such
as an example, becomes the file's path.
"""

import os.path
import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(
    r"(?P<image>!?)\[(?P<label>[^\[\]]*)\]\((?!https?:|mailto:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)"
)
PAGES = {  # the page where each outside document stands
    "ARCHITECTURE.md": "docs/explanation/architecture.md",
    "benchmarks/README.md": "docs/explanation/benchmarks.md",
    "CHANGELOG.md": "docs/reference/changelog.md",
    "CONTRIBUTING.md": "docs/how-to/contribute.md",
    "docs/explanation/decisions": "docs/explanation/decisions/index.md",
}
FIRST_LINES = re.compile(r"\A# .*\n\n(After reading this page (.+\n)+)?")  # the page has a title and such a sentence
BUILT = {".md", ".json", ".yml"}


def title(document: str) -> str:
    """The title of a document."""
    return (ROOT / document).read_text("utf-8").partition("\n")[0].removeprefix("# ")


def rewrite(text: str, folder: str, page: str) -> str:
    """Rewrite the links of a text in `folder`, so that they work on `page`; both are paths in the repository."""
    here = Path(page).parent

    def replace(link: re.Match[str]) -> str:
        target = os.path.normpath(Path(folder, link["path"]))
        label = link["label"]
        if label.endswith(".md") and (ROOT / target).is_file():
            label = title(target)  # on the built pages a file's name says little
        is_built = target.startswith("docs/") and Path(target).suffix in BUILT
        if link["image"] or is_built or target in PAGES or not (ROOT / target).exists():
            place = os.path.relpath(PAGES.get(target, target), here)
            return f"{link['image']}[{label}]({place}{link['anchor'] or ''})"
        path = f"`{target}`"
        return path if link["label"].strip("`/") == target else f"{link['label']} ({path})"

    return LINK.sub(replace, text)


def outside_text(page: str) -> str:
    """The text of the outside document that stands on this page, without its first lines; empty for other pages."""
    for document, place in PAGES.items():
        if place == page and (ROOT / document).is_file():
            text = FIRST_LINES.sub("", (ROOT / document).read_text("utf-8"), count=1)
            return f"\n{rewrite(text, str(Path(document).parent), page)}"
    return ""


def read(_app: Sphinx, name: str, source: list[str]) -> None:
    """Complete the source of one page."""
    page = f"docs/{name}.md"
    source[0] = rewrite(source[0], str(Path(page).parent), page) + outside_text(page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the reader of pages."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
