"""Numbers of payment cards and bank accounts, which have check digits."""

import re
from collections.abc import Container, Iterator, Sequence
from functools import cache
from itertools import accumulate

from models.guards.spans import Place

MIN_CARD_DIGITS, USUAL_CARD_DIGITS, MAX_CARD_DIGITS = 13, 16, 19
CARD_NETWORKS = "3456"  # the first digit of cards of other than the usual length
MAX_GROUP_DIGITS = 6  # of a card that is written in groups
_DIGIT_RUN = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,}")
_DIGIT_GROUP = re.compile(r"[0-9]+")
_POINT_BEFORE, _POINT_AFTER = re.compile(r"[0-9]\."), re.compile(r"\.[0-9]")
_USUAL_CARD = re.compile(rf"[{CARD_NETWORKS}][0-9]{{3}}([ -]?)[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}")
_DOUBLED = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]  # a digit that Luhn's formula doubles, with the digits of the result added

# Characters of an IBAN by country, from the registry of SWIFT.
_COUNTRIES_BY_CHARACTERS = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
IBAN_CHARACTERS = {
    country: count for count, countries in _COUNTRIES_BY_CHARACTERS.items() for country in countries.split()
}
_IBAN_START = re.compile(r"(?<![0-9A-Za-z_])[A-Za-z]{2}[0-9]{2}(?=[ -]?[0-9A-Za-z]{4})")


def find_ibans(text: str) -> Iterator[Place]:
    """IBANs of the countries in the registry, by their length and check digits (ISO 7064, mod 97-10)."""
    searched_to = 0
    for match in _IBAN_START.finditer(text):
        characters = IBAN_CHARACTERS.get(match[0][:2].upper())
        if characters is None or match.start() < searched_to:
            continue
        iban = _iban_of(characters).match(text, match.start())
        if iban and _has_iban_check_digits(iban[0]):
            yield iban.span()
            searched_to = iban.end()


@cache
def _iban_of(characters: int) -> re.Pattern[str]:
    # Letters may touch an IBAN without separators, such as those of a BIC: chance is left to the check sum.
    return re.compile(
        rf"[0-9A-Za-z](?:[ -]?[0-9A-Za-z]){{{characters - 1}}}(?![0-9A-Za-z_])|[0-9A-Za-z]{{{characters}}}(?![0-9])"
    )


def _has_iban_check_digits(iban: str) -> bool:
    characters = iban.replace(" ", "").replace("-", "")
    return int("".join(str(int(character, 36)) for character in characters[4:] + characters[:4])) % 97 == 1


def find_cards(text: str) -> Iterator[Place]:
    """Numbers of 13 to 19 digits that satisfy Luhn's formula, with single spaces or dashes between them.

    Numbers of other than 16 digits count only if they begin as card networks do, with 3 to 6: one in ten numbers
    satisfies the formula by chance.
    """
    for match in _DIGIT_RUN.finditer(text):
        start, end = match.span()
        if not _is_phone(text, start, min(end, start + 40)):
            yield from _cards_of_run(text, start, end)


def _is_phone(text: str, start: int, end: int) -> bool:
    return text[start - 1 : start] == "+" and sum(map(str.isdigit, text[start:end])) < USUAL_CARD_DIGITS


def _cards_of_run(text: str, run_start: int, run_end: int) -> list[Place]:
    groups = _groups_of_run(text, run_start, run_end)
    cards = list(_possible_cards(text, groups))
    # Digits beside a card may satisfy the formula with its first groups, so the usual form counts before the start.
    usual = {first for first, last in cards if _USUAL_CARD.fullmatch(text, groups[first][0], groups[last][1])}
    is_taken = bytearray(len(groups))
    places = []
    passes: tuple[Container[int], ...] = (usual, range(len(groups)))
    for starts in passes:
        for first, last in cards:
            if first not in starts or True in is_taken[first : last + 1]:
                continue
            place = groups[first][0], groups[last][1]
            if not _is_phone(text, *place):
                is_taken[first : last + 1] = bytes([True]) * (last + 1 - first)
                places.append(place)
    return sorted(places)


def _groups_of_run(text: str, start: int, end: int) -> list[Place]:
    """The groups of digits, without long ones that belong to a number with a decimal point."""
    groups = [match.span() for match in _DIGIT_GROUP.finditer(text, start, end)]
    if _is_long(groups[-1]) and _POINT_AFTER.match(text, end):
        groups.pop()
    if groups and _is_long(groups[0]) and start > 1 and _POINT_BEFORE.match(text, start - 2):
        groups.pop(0)
    return groups


def _is_long(group: Place) -> bool:
    return group[1] - group[0] > MAX_GROUP_DIGITS


def _possible_cards(text: str, groups: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """First and last group of what may be a card; of those with one start the longest first: it leaves no digits."""
    run = "".join(text[start:end] for start, end in groups)
    sums = _luhn_sums(run)
    digits_before = [0, *accumulate(end - start for start, end in groups)]
    end = 0
    for first in range(len(groups)):
        start = digits_before[first]
        while end < len(groups) and digits_before[end + 1] - start <= MAX_CARD_DIGITS:
            end += 1
        for last in range(end - 1, first - 1, -1):
            if digits_before[last + 1] - start < MIN_CARD_DIGITS:
                break
            if _is_card(run, sums, start, digits_before[last + 1]):
                yield first, last


def _luhn_sums(run: str) -> tuple[list[int], list[int]]:
    """Sums of all digits before each place, with those at even places doubled, and with those at odd places."""
    even = [_DOUBLED[int(digit)] if index % 2 == 0 else int(digit) for index, digit in enumerate(run)]
    odd = [_DOUBLED[int(digit)] if index % 2 else int(digit) for index, digit in enumerate(run)]
    return [0, *accumulate(even)], [0, *accumulate(odd)]


def _is_card(run: str, sums: tuple[list[int], list[int]], first: int, end: int) -> bool:
    doubled = sums[end % 2]  # the last digit, at end - 1, is not doubled
    if (doubled[end] - doubled[first]) % 10:
        return False
    if end - first != USUAL_CARD_DIGITS and run[first] not in CARD_NETWORKS:
        return False
    return run[first] != "0" and len(set(run[first:end])) > 1
