"""Phone numbers: those that look like nothing else.

An international number has a plus sign or 00 before its country. A national one has the groups of North America or of
France, or a zero before its area. Any other number needs a word such as "phone" or "call" before it. Numbers of seven
digits without such a word are not found, nor are those without any sign of a phone: they may be anything.
"""

import re
from collections.abc import Iterator

from models.guards.spans import Place, merge_places

MIN_DIGITS, MAX_DIGITS = 9, 12  # of a number with its area
_START = r"(?<![0-9A-Za-z_])"
_NO_MORE = r"(?![0-9A-Za-z_])"
_NO_NUMBER_BEFORE = r"(?<![0-9][.,/-])"
_SIGNS = r"[ ()./-]{0,3}"

# Every repetition has a bound, so each place of a text is tried for a bounded time.
_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![0-9A-Za-z_)+])\+{_SIGNS}[1-9](?:{_SIGNS}[0-9]){{7,14}}(?![0-9])",
        rf"{_START}{_NO_NUMBER_BEFORE}00[1-9][0-9]{{0,2}}[ ()./-]{{1,3}}[0-9](?:{_SIGNS}[0-9]){{5,12}}{_NO_MORE}",
        # North America: 555-123-4567, (555) 123-4567; with spaces only if area and exchange are possible
        rf"{_START}{_NO_NUMBER_BEFORE}(?:1[ .-])?(?:\([0-9]{{3}}\)[ .-]?|[0-9]{{3}}[.-])[0-9]{{3}}[ .-][0-9]{{4}}"
        rf"{_NO_MORE}(?![.-][0-9])",
        rf"{_START}(?<![0-9][ .,/-])(?:1 )?[2-9][0-9]{{2}} [2-9][0-9]{{2}}[ -][0-9]{{4}}{_NO_MORE}(?![ .-][0-9])",
        # France: 06 12 34 56 78, 06.12.34.56.78
        rf"{_START}(?<![0-9][ .,/-])0[1-9](?:[ .-][0-9]{{2}}){{4}}{_NO_MORE}(?![ .-][0-9])",
    )
]
_AREA = re.compile(
    rf"{_START}(?<![0-9][ .,/-])\(?0[1-9][0-9]{{0,4}}\)?[ /-]{{1,3}}[0-9]{{2,8}}(?:[ -][0-9]{{2,5}}){{0,4}}{_NO_MORE}"
)
_NAMED = re.compile(
    r"(?<![0-9A-Za-z_])(?:tel|tél|telephone|telefon|téléphone|teléfono|telefono|phone|mobile|mobil|móvil|cell|fax|"
    r"handy|whatsapp|call|dial)(?![0-9A-Za-z_])[^0-9A-Za-z_+\n]{0,6}"
    r"(?:(?:no|nr|number|nummer|is|at|me|us|him|her|them|on)[^0-9A-Za-z_+\n]{1,4}){0,3}"
    rf"(\(?[0-9](?:{_SIGNS}[0-9]){{6,14}}){_NO_MORE}",
    re.IGNORECASE,
)
_DATE = re.compile(r"0[1-9][ ./-][0-9]{1,2}[ ./-](?:19|20)[0-9]{2}(?![0-9])|(?:19|20)[0-9]{2}[-./][0-9]{1,2}[-./][0-9]")


def find_phones(text: str) -> Iterator[Place]:
    """Phone numbers, in order and merged."""
    places = [match.span() for pattern in _PATTERNS for match in pattern.finditer(text)]
    places += [match.span() for match in _AREA.finditer(text) if _is_area_number(match[0])]
    places += [match.span(1) for match in _NAMED.finditer(text) if not _DATE.match(match[1])]
    return merge_places(sorted(places))


def _is_area_number(number: str) -> bool:
    return MIN_DIGITS <= sum(map(str.isdigit, number)) <= MAX_DIGITS and not _DATE.match(number)
