"""How pages write untrusted text: Jinja escapes it, and this shows what a browser would hide or obey. Pure."""

import json
import re

from markupsafe import Markup, escape

from producer.advice import Door, in_door

# Controls, and what is invisible or changes the direction of its neighbours. Joiners stay, since scripts and emoji need
# them. Half a surrogate pair can't be sent at all.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
CONTROL_PICTURES = 0x2400  # ␀ and so on, one for each of the first 32 controls
LAST_PICTURED = 0x20
ELLIPSIS = "…"
# That begin a sentence of ours; another word may be a name, which is not ours to change.
FIRST_WORDS = frozenset(
    {
        "a",
        "an",
        "another",
        "at",
        "choose",
        "each",
        "it",
        "no",
        "nothing",
        "one",
        "only",
        "run",
        "say",
        "send",
        "sign",
        "that",
        "the",
        "there",
        "these",
        "this",
        "too",
        "without",
        "your",
    }
)


def visible(text: object) -> str:
    """Return a text with a sign or a code in place of each character that can't be seen."""
    return UNSEEN.sub(_name_character, str(text).replace("\r\n", "\n"))


def cut(text: object, most: int = 200) -> str:
    """Return at most this many characters of a text, visible; a longer one ends in an ellipsis."""
    whole = str(text)
    return visible(whole if len(whole) <= most else whole[:most].rstrip() + ELLIPSIS)


def sentence(text: object) -> str:
    """Return a message with a capital at its beginning, unless that may be a name or a quotation."""
    whole = str(text)
    return whole[:1].upper() + whole[1:] if whole.partition(" ")[0] in FIRST_WORDS else whole


def with_code(text: object) -> Markup:
    """Return a text of ours as HTML: what stands in backticks is code; everything in it is escaped."""
    pieces = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if number % 2 else escape(piece) for number, piece in enumerate(pieces)
    )


def escape_json(text: str) -> str:
    """Return a JSON text that means the same, with escapes in place of characters that can't be seen."""
    return UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def _name_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(CONTROL_PICTURES + code) if code < LAST_PICTURED else f"⟨U+{code:04X}⟩"


def in_page(text: str) -> str:
    """Return a message in the words of pages."""
    return in_door(text, Door.PAGE)


FILTERS = {"visible": visible, "cut": cut, "sentence": sentence, "with_code": with_code, "in_page": in_page}
