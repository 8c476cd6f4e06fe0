"""Names that are given to the columns of a CSV or TSV file without a header."""

import csv
import io
from collections import Counter
from collections.abc import Iterable

from models.errors import UsageError
from producer.readers.storable import is_storable

PARAM = "column_names"  # the option, in Python, over HTTP and in a schedule
MAX_NAMES, MAX_NAME_CHARACTERS = 2_000, 200
NO_NAMES = "column_names must be a list of texts, or one text such as text,label"
ONLY_FILES = "column names are for CSV and TSV files; leave them out"


def parse_names(names: object) -> tuple[str, ...]:
    """Read a list of names, or a text such as `text,label`, in which names are quoted as the cells of CSV are.

    Raises UsageError.
    """
    given = _split(names) if isinstance(names, str) else names
    if not isinstance(given, Iterable) or isinstance(given, (bytes, dict, set, frozenset)):
        raise names_error(NO_NAMES)
    found = list(given)
    if not all(isinstance(name, str) for name in found):
        raise names_error(NO_NAMES)
    stripped = [name.strip() for name in found]
    _check(stripped)
    return tuple(stripped)


def names_error(message: str) -> UsageError:
    """Return the error of names that are wrong, or out of place."""
    return UsageError(message, param=PARAM)


def wrong_format(source_name: str, file_format: str) -> UsageError:
    """Return the error of names for a file that has names itself, or none at all."""
    return names_error(
        f"column names are for CSV and TSV, and {source_name} is read as {file_format}; leave them out, or name "
        "another format"
    )


def _split(text: str) -> list[str]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        raise names_error('a quote in column_names is not closed; write names such as text,"a, b"') from None
    if len(rows) > 1:
        raise names_error("column_names must be in one line, such as text,label")
    return rows[0] if rows else []


def _check(names: list[str]) -> None:
    if not names:
        raise names_error("column_names has no name; write one for each column, such as text,label")
    if len(names) > MAX_NAMES:
        raise names_error(f"there are {len(names):,} column names; at most {MAX_NAMES:,} are taken")
    if "" in names:
        raise names_error(f"column name {names.index('') + 1} is empty; write one for each column, such as text,label")
    if longest := max(names, key=len)[MAX_NAME_CHARACTERS:]:
        length = MAX_NAME_CHARACTERS + len(longest)
        raise names_error(f"a column name has {length:,} characters; at most {MAX_NAME_CHARACTERS} are taken")
    unstorable = next((number for number, name in enumerate(names, start=1) if not is_storable(name)), None)
    if unstorable is not None:
        raise names_error(
            f"column name {unstorable} has a NUL character or half a surrogate pair, which no database stores"
        )
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise names_error(f"the column name {repeated[:40]!r} is given twice; name each column once")
