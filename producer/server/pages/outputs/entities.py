"""Places in a text that an output names by offsets, which count characters and may be wrong. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_ENTITIES = 500  # marked in one text
MAX_CHARACTERS = 20_000  # of the text around them
ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text; `label` names what was found there, and is empty between two places."""

    text: str
    label: str = ""


def highlight(text: object, found: Sequence[Mapping[str, Any]]) -> tuple[Piece, ...]:
    """Return a text in pieces, of which those that were found have labels.

    Places outside the text, and those that overlap an earlier one, are left out. Empty if none is left.
    """
    if not isinstance(text, str):
        return ()
    pieces: list[Piece] = []
    end = 0
    for start, stop, label in sorted(_places(text[:MAX_CHARACTERS], found[:MAX_ENTITIES])):
        if start < end:
            continue
        pieces += [Piece(text[end:start])] if start > end else []
        pieces.append(Piece(text[start:stop], label))
        end = stop
    if not pieces:
        return ()
    rest = text[end:MAX_CHARACTERS]
    return (*pieces, *([Piece(rest)] if rest else []), *([Piece(ELLIPSIS)] if len(text) > MAX_CHARACTERS else []))


def around(text: object, answer: Mapping[str, Any], characters: int) -> tuple[Piece, ...]:
    """Return an answer's place with this many characters of the text on either side; empty if it is not there."""
    if not isinstance(text, str):
        return ()
    for start, stop, _ in _places(text, [{**answer, "entity": "answer"}]):
        first, last = max(0, start - characters), min(len(text), stop + characters)
        before = (ELLIPSIS if first else "") + text[first:start]
        after = text[stop:last] + (ELLIPSIS if last < len(text) else "")
        return tuple(piece for piece in (Piece(before), Piece(text[start:stop], "answer"), Piece(after)) if piece.text)
    return ()


def _places(text: str, found: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str]]:
    places = []
    for item in found:
        start, stop = item.get("start"), item.get("end")
        if type(start) is int and type(stop) is int and 0 <= start < stop <= len(text):
            places.append((start, stop, str(item.get("entity_group", item.get("entity", "")))))
    return places
