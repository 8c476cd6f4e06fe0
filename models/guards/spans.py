"""Places in a text while a rule finds them: plain pairs of offsets, merged and bounded."""

from collections.abc import Iterable, Iterator, Sequence

MAX_SPANS = 100_000  # of one rule in one text; the rest of a text with more is one span

Place = tuple[int, int]  # [start, end) in characters


def merge_places(places: Iterable[Place]) -> Iterator[Place]:
    """Make one place of those that overlap or touch; they come in the order of their starts."""
    first, last = -1, -1
    for start, end in places:
        if start > last:
            if last >= 0:
                yield first, last
            first = start
        last = max(last, end)
    if last >= 0:
        yield first, last


def mask_places(text: str, places: Iterable[Place]) -> str:
    """Put line breaks in place of the characters of places, which come in order and do not overlap."""
    parts, end_before = [], 0
    for start, end in places:
        parts += [text[end_before:start], "\n" * (end - start)]
        end_before = end
    return "".join(parts) + text[end_before:]


def limit_places(places: Iterable[Place], length: int, max_spans: int = MAX_SPANS) -> Iterator[Place]:
    """Yield places; the last one that is allowed reaches to the end of the text, so nothing caught is left out."""
    for count, (start, end) in enumerate(places, 1):
        if count == max_spans:
            yield start, length
            return
        yield start, end


def unfold_places(places: Iterable[Place], origins: Sequence[int]) -> Iterator[Place]:
    """Translate places of a folded text into places of the text itself."""
    return ((origins[start], origins[end - 1] + 1) for start, end in places)
