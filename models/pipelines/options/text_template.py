"""Text templates, such as `{title}: {body}`, whose names stand for values of a row. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Self

from models.errors import JobError
from models.tasks.fields import MAX_TEXT_CHARACTERS, is_storable

MAX_TEMPLATE_CHARACTERS = 20_000
MAX_NAMES = 50
MAX_NAME_BYTES = 63  # as PostgreSQL has it for a column, because exports have a column for each name
NAME = re.compile(r"[^\W\d](?:[\w -]*[\w-])?")
BRACES_ADVICE = "write {{ and }} for braces of the text itself"


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """A parsed template.

    source: the template as it was written.
    parts: literal texts, each with the name that follows it.
    end: the text behind the last name.
    names: the distinct names, in the order of their first use.
    """

    source: str
    parts: tuple[tuple[str, str], ...]
    end: str
    names: tuple[str, ...]

    @classmethod
    def parse(cls, source: str) -> Self:
        """Parse a template of plain names in braces; raises ValueError that says what is wrong with it.

        There are no attributes, indices, conversions or format specs: those could show internals or ask for gigabytes.
        The error quotes nothing of the template, because logs repeat it.
        """
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ValueError(f"has {len(source):,} characters; at most {MAX_TEMPLATE_CHARACTERS:,} are taken")
        if not is_storable(source):
            raise ValueError("has a NUL character or half a surrogate pair, which no database stores")
        try:
            fragments = list(Formatter().parse(source))
        except ValueError:
            raise ValueError(f"has a single brace; {BRACES_ADVICE}") from None
        parts: list[tuple[str, str]] = []
        literal = ""
        for text, name, spec, conversion in fragments:
            literal += text
            if name is not None:
                _check_name(len(parts) + 1, name, spec, conversion)
                parts.append((literal, name))
                literal = ""
        names = tuple(dict.fromkeys(name for _, name in parts))
        _check_names(names)
        return cls(source, tuple(parts), literal, names)

    def render(self, values: Mapping[str, str]) -> str:
        """Insert the values, whose own braces mean nothing. Raises JobError without a value, or if it gets too long."""
        for name in self.names:
            if values.get(name) is None:
                raise JobError("missing_field", f"{name} is missing; an input needs {' and '.join(self.names)}")
        check_characters(self.count_characters(values))  # first: one value may be inserted thousands of times
        return "".join([piece for literal, name in self.parts for piece in (literal, values[name])]) + self.end

    def count_characters(self, values: Mapping[str, str]) -> int:
        """The length of the rendered text, without rendering it."""
        return sum([len(literal) + len(values.get(name) or "") for literal, name in self.parts]) + len(self.end)


def check_characters(count: int) -> None:
    """Raise JobError if a rendered prompt has too many characters."""
    if count > MAX_TEXT_CHARACTERS:
        raise JobError(
            "text_too_long",
            f"with the pipeline's prompt it has {count:,} characters; at most {MAX_TEXT_CHARACTERS:,} are taken",
        )


def _check_name(number: int, name: str, spec: str | None, conversion: str | None) -> None:
    if not name:
        raise ValueError(f"pair {number} of braces has no name in it; name a field of the row, or {BRACES_ADVICE}")
    if spec or conversion:
        raise ValueError(f"pair {number} of braces has more than a name in it; take out the rest, or {BRACES_ADVICE}")
    if not NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise ValueError(
            f"pair {number} of braces has no plain name in it: letters, digits, spaces, _ and -, with a letter or _ "
            f"first, at most {MAX_NAME_BYTES} bytes; correct it, or {BRACES_ADVICE}"
        )


def _check_names(names: tuple[str, ...]) -> None:
    if len(names) > MAX_NAMES:
        raise ValueError(f"has {len(names)} names; at most {MAX_NAMES} are taken")
