"""Terminal output that treats all text as untrusted: no text may control the terminal."""

import json
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

import click

ELLIPSIS = "…"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, in a stable shape, for programs.")


def to_printable(text: str) -> str:
    """Return the text on one line, without characters that move the cursor, hide or reorder text."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def shorten(text: str, width: int) -> str:
    """Return printable text cut to `width` columns."""
    text = " ".join(to_printable(text[: 4 * width]).split())
    if display_width(text) <= width:
        return text
    while display_width(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS


def display_width(text: str) -> int:
    """Return the number of terminal columns that a text occupies."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Align columns, numbers right, None as a blank. Cells are never cut, so that the output can be searched."""
    lines = [list(header), *([_format_cell(cell) for cell in row] for row in rows)]
    numeric = [_is_numeric([row[i] for row in rows if row[i] is not None]) for i in range(len(header))]
    widths = [max(display_width(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(_align(*of_cell) for of_cell in zip(line, widths, numeric, strict=True)).rstrip() for line in lines
    )


def format_pairs(pairs: Sequence[tuple[str, object]]) -> str:
    """Format names and values in two columns."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:<{width}}  {_format_cell(value)}" for name, value in pairs)


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, such as "2 jobs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """Format a duration in the largest unit of which it has at least two."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def compact_json(value: Any) -> str:
    """Return a document as JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def terminal_width() -> int:
    """Return the width of the terminal, in columns."""
    return shutil.get_terminal_size((100, 24)).columns


def must_escape_json() -> bool:
    """Return whether JSON must be escaped: on a terminal, or if the encoding is limited."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return sys.stdout.isatty() or not encoding.lower().replace("-", "").startswith("utf")


def echo_json(document: Any) -> None:
    """Print a document as JSON, escaped if `must_escape_json`."""
    click.echo(json.dumps(document, ensure_ascii=must_escape_json(), indent=2 if sys.stdout.isatty() else None))


def echo_list(documents: Sequence[dict[str, Any]]) -> None:
    """Print a list in the form of OpenAI's API."""
    echo_json({"object": "list", "data": list(documents)})


def print_notice(message: str) -> None:
    """Print a message apart from the data."""
    click.echo(message, err=True)


def _format_cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else to_printable(str(value))


def _is_numeric(cells: Sequence[object]) -> bool:
    return bool(cells) and all(isinstance(cell, int | float) for cell in cells)


def _align(text: str, width: int, numeric: bool) -> str:
    gap = " " * (width - display_width(text))
    return gap + text if numeric else text + gap


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
