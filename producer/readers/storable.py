"""Storable text is text that every database takes; `UnreadableValue` stands for a value that could not be read."""

from dataclasses import dataclass

MAX_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class UnreadableValue:
    """Stands for a value that could not be read; the reason continues a sentence that begins with its column."""

    reason: str


def is_storable(value: str) -> bool:
    """Whether every database can store this text: no NUL, no lone surrogate."""
    if value.isascii():
        return "\0" not in value
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def make_storable(message: str) -> str:
    """The message as every database can store it: a file name or a driver's message may contain what none can."""
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    return make_text_storable(message)


def make_text_storable(value: str) -> str:
    """The text with escapes in place of what no database can store."""
    return value if is_storable(value) else value.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
