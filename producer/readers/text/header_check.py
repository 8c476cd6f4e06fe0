"""Whether the first line of a table is one of names, or the first row of a file without a header. Pure."""

import re
from collections.abc import Iterator, Sequence

NUMBER = re.compile(r"[-+]?\d{1,18}([.,]\d{1,18})?%?")
DATE = re.compile(r"\d{4}-\d\d?-\d\d?([T ]\S.*)?|\d\d?[./]\d\d?[./](\d\d){1,2}")
ADDRESS = re.compile(r"https?://\S+|[^\s@]+@[^\s@.]+\.[^\s@]+")  # any other dot would take quadratic time
MIN_SENTENCE_WORDS, MIN_SENTENCE_CHARACTERS = 6, 80
YEARS = range(1900, 2101)
SHOWN_NAMES, SHOWN_CHARACTERS = 3, 30
DATA = ("number", "date", "address", "sentence")  # kinds of cells that no name is of
ANSWERED = ("?", ":")  # how the question of a survey ends, which is a name


def find_doubt(header: Sequence[str], first_row: Sequence[str], advice: str) -> str | None:
    """Return a sentence if a header looks like data; None = it looks like names.

    A column shows that it has data in its first line if that and the cell below are of one kind which no name has, such
    as numbers. A single name over such a cell shows the contrary. Files of years or of numbered columns are no doubt.

    advice: what to do if it is data
    """
    if len(header) != len(first_row):
        return None
    pairs = [(_kind(name), _kind(cell)) for name, cell in zip(header, first_row, strict=True)]
    if any(_is_name_over_data(above, below) for above, below in pairs):
        return None
    alike = [(name, above) for name, (above, below) in zip(header, pairs, strict=True) if above == below]
    evidence = [(name, kind) for name, kind in alike if kind in DATA]
    numbers = [name for name, kind in evidence if kind == "number"]
    if not evidence or (len(numbers) == len(evidence) and _is_series(numbers)):
        return None
    shown = ", ".join(_shown(name) for name in header[:SHOWN_NAMES])
    more = ", …" if len(header) > SHOWN_NAMES else ""
    return f"the first line is taken as the names of the columns: {shown}{more}; if it is data, {advice}"


def _kind(cell: str) -> str:
    text = cell.strip()
    if not text:
        return "empty"
    kinds = ((NUMBER, "number"), (DATE, "date"), (ADDRESS, "address"))
    found = next((name for pattern, name in kinds if pattern.fullmatch(text)), None)
    if found is not None:
        return found
    is_long = len(text) >= MIN_SENTENCE_CHARACTERS or len(text.split()) >= MIN_SENTENCE_WORDS
    return "sentence" if is_long and not text.endswith(ANSWERED) else "word"


def _is_name_over_data(above: str, below: str) -> bool:
    """Whether a cell can only be a name: a short text over data, or a long one, as of a survey, over something else."""
    if above == "sentence":
        return below not in ("sentence", "empty")
    return above == "word" and below in DATA


def _is_series(numbers: Sequence[str]) -> bool:
    """Whether numbers are years, or count columns, as tables have them that were written without names."""
    whole = list(_whole_numbers(numbers))
    if len(whole) < len(numbers):
        return False
    return all(number in YEARS for number in whole) or (
        whole == list(range(whole[0], whole[0] + len(whole))) and (len(whole) > 1 or whole == [0])
    )


def _whole_numbers(numbers: Sequence[str]) -> Iterator[int]:
    return (int(number) for number in map(str.strip, numbers) if number.isascii() and number.isdigit())


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…")
