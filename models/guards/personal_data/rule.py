"""The rule of guards with `pii`: personal data of several kinds in one text."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import re2

from models.guards.folding import KEEP_CASE
from models.guards.personal_data.account_numbers import find_cards, find_ibans
from models.guards.personal_data.addresses import find_emails, find_ips
from models.guards.personal_data.phones import find_phones
from models.guards.reading import NOTHING_CAUGHT, Reading, Span
from models.guards.spans import Place, limit_places, mask_places, unfold_places

# The surer kind first: where one kind is found, those below it are not.
FINDERS: dict[str, Callable[[str], Iterable[Place]]] = {
    "email": find_emails,
    "iban": find_ibans,
    "ip": find_ips,
    "card": find_cards,
    "phone": find_phones,
}
# Kinds whose digits might be taken for another kind, though nobody asks for them.
SURER_KINDS = {"card": ("iban",), "phone": ("iban", "ip", "card")}
# What a text must have for the finders to be worth their time. One search for all kinds takes a microsecond.
HINTS = {
    "email": "@",
    "iban": "[A-Za-z]{2}[0-9]{2}[ -]?[0-9A-Za-z]{4}",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]|:[0-9A-Fa-f]{0,4}:",
    "card": "[0-9](?:[ -]?[0-9]){12}",
    "phone": "[0-9](?:[ ()./-]{0,3}[0-9]){6}",
}


class PersonalDataRule:
    """Every e-mail address, phone number, card number, IBAN or IP address is a span with its kind as its label.

    Invisible characters do not count, and digits of all scripts are read.

    kinds: of `FINDERS`, to look for.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        wanted = set(kinds)
        searched = wanted.union(*(SURER_KINDS.get(kind, ()) for kind in kinds))
        self._finders = [(kind.upper(), finder, kind in wanted) for kind, finder in FINDERS.items() if kind in searched]
        self._hint: Any = re2.compile("|".join(HINTS[kind] for kind in FINDERS if kind in wanted))

    def read(self, text: str) -> Reading:
        """Find all kinds; places of different kinds do not overlap."""
        is_ascii = text.isascii()
        folded = text if is_ascii else text.translate(KEEP_CASE)
        if self._hint.search(folded.encode("utf-8", "replace")) is None:
            return NOTHING_CAUGHT
        found = self._find(folded)
        if not found:
            return NOTHING_CAUGHT
        places: Iterable[Place] = (place for place, _ in found)
        if not is_ascii:
            places = unfold_places(places, KEEP_CASE.origins(text))
        limited = limit_places(places, len(text))
        spans = tuple([Span(start, end, label) for (start, end), (_, label) in zip(limited, found, strict=False)])
        return Reading(caught=True, label=spans[0].label, spans=spans)

    def _find(self, folded: str) -> list[tuple[Place, str]]:
        found: list[tuple[Place, str]] = []
        rest = folded
        for label, finder, is_wanted in self._finders:
            places = list(finder(rest))
            # No number crosses a line break, so a number beside a surer one is found up to it.
            rest = mask_places(rest, places) if places else rest
            if is_wanted:
                found += [(place, label) for place in places]
        return sorted(found)
