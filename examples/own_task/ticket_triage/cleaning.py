"""Tickets as plain text: without HTML, and with hashtags as words."""

import re
from html.parser import HTMLParser

HASHTAG = re.compile(r"#(\w+)")
WORD_BEGINNING = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
HIDDEN_TAGS = frozenset(("script", "style"))


def clean(text: str) -> str:
    """Return the visible text on one line: `<b>Late</b> #StillWaiting` becomes `Late Still Waiting`."""
    parser = TextParser()
    parser.feed(text)
    parser.close()
    return " ".join(HASHTAG.sub(expand_hashtag, "".join(parser.parts)).split())


def expand_hashtag(match: re.Match[str]) -> str:
    """Return the words of a hashtag."""
    return WORD_BEGINNING.sub(" ", match[1]).replace("_", " ")


class TextParser(HTMLParser):
    """Collects the text between tags, and none of scripts and styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden_depth = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Count the tags whose content is not shown."""
        self._hidden_depth += tag in HIDDEN_TAGS
        self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        """Count them down again."""
        if tag in HIDDEN_TAGS:
            self._hidden_depth = max(0, self._hidden_depth - 1)
        self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        """Keep text that is shown."""
        if not self._hidden_depth:
            self.parts.append(data)
