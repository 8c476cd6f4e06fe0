"""Problems of rows as a page lists them: rows with the same problem share a sentence. Pure."""

import re
from collections.abc import Iterable

PROBLEM = re.compile(r"(line|row) ([\d,]+): (.*)", re.DOTALL)
MAX_PLACES = 5  # that are named for one problem


def group_problems(problems: Iterable[str]) -> list[str]:
    """Return a sentence for each problem, in the order in which they came.

    problems: such as `line 3: is not UTF-8`; anything else stays as it is
    """
    places: dict[tuple[str, str], list[str]] = {}
    for problem in problems:
        found = PROBLEM.fullmatch(problem)
        unit, place, message = ("", "", problem) if found is None else found.groups()
        places.setdefault((unit, message), []).append(place)
    return [f"{_name_places(unit, numbers)}{message}" for (unit, message), numbers in places.items()]


def _name_places(unit: str, numbers: list[str]) -> str:
    """The beginning of a sentence, such as `lines 3, 8 and 12: `."""
    if not unit:
        return ""
    if len(numbers) > MAX_PLACES:
        return f"{unit}s {', '.join(numbers[:MAX_PLACES])}, …: "
    *first, last = numbers
    return f"{unit}s {', '.join(first)} and {last}: " if first else f"{unit} {last}: "
