"""How pages write untrusted text: Jinja escapes it, and this shows what a browser would hide or obey. Pure."""

import re

# Controls, and what is invisible or changes the direction of its neighbours. Joiners stay, since scripts and emoji need
# them. Half a surrogate pair can't be sent at all.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
CONTROL_PICTURES = 0x2400  # ␀ and so on, one for each of the first 32 controls
LAST_PICTURED = 0x20
ELLIPSIS = "…"


def visible(text: object) -> str:
    """Return a text with a sign or a code in place of each character that can't be seen."""
    return UNSEEN.sub(_name_character, str(text).replace("\r\n", "\n"))


def cut(text: object, most: int = 200) -> str:
    """Return at most this many characters of a text, visible; a longer one ends in an ellipsis."""
    whole = str(text)
    return visible(whole if len(whole) <= most else whole[:most].rstrip() + ELLIPSIS)


def _name_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(CONTROL_PICTURES + code) if code < LAST_PICTURED else f"⟨U+{code:04X}⟩"


FILTERS = {"visible": visible, "cut": cut}
