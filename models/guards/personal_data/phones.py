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
_NO_PART_BEFORE, _NO_GROUP_BEFORE = r"(?<![0-9][./-])", r"(?<![0-9][ ./-])"
_SIGNS = r"[ ()./-]{0,3}"
_SEPARATORS = r"[ ()./-]{1,3}"

# Every repetition has a bound, so each place of a text is tried for a bounded time.
# North America, whose country is 1: 555-123-4567, (555) 123-4567; with spaces only if area and exchange are possible.
_AMERICAN = rf"(?:1[ .-])?(?:\([0-9]{{3}}\)[ .-]?|[0-9]{{3}}[.-])[0-9]{{3}}[ .-][0-9]{{4}}{_NO_MORE}(?![.-][0-9])"
_SPACED_AMERICAN = r"(?:1 )?[2-9][0-9]{2} [2-9][0-9]{2}[ -][0-9]{4}"
_FRENCH = r"0[1-9](?:[ .-][0-9]{2}){4}"  # 06 12 34 56 78, 06.12.34.56.78
_PLAIN_AREA = rf"0[1-9][0-9]{{1,4}}[ /-][0-9]{{5,8}}{_NO_MORE}"
_PLUS = (
    rf"\+{_SIGNS}(?:1{_SIGNS}[2-9](?:{_SIGNS}[0-9]){{9}}"
    rf"|(?!1{_SIGNS}[01])[1-9](?:(?:{_SIGNS}[0-9]){{7,14}}?(?=[ /](?:{_PLAIN_AREA}|{_AMERICAN}))"
    rf"|(?:{_SIGNS}[0-9]){{7,14}}))(?![0-9])"
)
_DOUBLE_ZERO = (
    rf"00(?:1{_SEPARATORS}[2-9](?:{_SIGNS}[0-9]){{9}}"
    rf"|[2-9][0-9]{{0,2}}{_SEPARATORS}(?!00)[0-9](?:{_SIGNS}[0-9]){{5,12}}){_NO_MORE}"
)


def _end_of(number: str) -> str:
    """No group follows, unless it begins one more number of the same form."""
    return rf"{_NO_MORE}(?:(?![ .-][0-9])|(?=[ .-]{number}{_NO_MORE}))"


_FORMS = (
    (r"(?<![0-9A-Za-z_)+])", _PLUS),
    (_START + _NO_PART_BEFORE, _DOUBLE_ZERO),
    (_START + _NO_PART_BEFORE, _AMERICAN),
    (_START + _NO_GROUP_BEFORE, _SPACED_AMERICAN + _end_of(_SPACED_AMERICAN)),
    (_START + _NO_GROUP_BEFORE, _FRENCH + _end_of(_FRENCH)),
)
_PATTERNS = [re.compile(before + number) for before, number in _FORMS]
_NEXT = re.compile(rf"[ ,;|/.-]?({'|'.join(number for _, number in _FORMS)}|{_PLAIN_AREA})")
_AREA_NUMBER = (
    rf"\(?0[1-9][0-9]{{0,4}}\)?[ /-]{{1,3}}[0-9]{{2,8}}(?:[ -](?!{_PLAIN_AREA})[0-9]{{2,5}}){{0,4}}{_NO_MORE}"
)
_AREA, _NEXT_AREA = re.compile(_START + _NO_GROUP_BEFORE + _AREA_NUMBER), re.compile(rf"[ ,;|/.-]?({_AREA_NUMBER})")
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
    places = [place for pattern in _PATTERNS for place in _find_rows(text, pattern, _NEXT)]
    places += [place for place in _find_rows(text, _AREA, _NEXT_AREA) if _is_area_number(text[slice(*place)])]
    places += [match.span(1) for match in _NAMED.finditer(text) if not _DATE.match(match[1])]
    return merge_places(sorted(places))


def _find_rows(text: str, first: re.Pattern[str], following: re.Pattern[str]) -> Iterator[Place]:
    """Numbers of one form, and those that follow one with at most a sign between; alone they might be a part of it."""
    end = 0
    while match := first.search(text, end):
        yield match.span()
        end = match.end()
        while match := following.match(text, end):
            yield match.span(1)
            end = match.end()


def _is_area_number(number: str) -> bool:
    return MIN_DIGITS <= sum(map(str.isdigit, number)) <= MAX_DIGITS and not _DATE.match(number)
