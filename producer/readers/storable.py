"""Storable: what text every database takes; and values that came as none that Python has."""

from dataclasses import dataclass

MAX_MESSAGE_CHARACTERS = 2000  # characters of a sentence about what went wrong


@dataclass(frozen=True, slots=True)
class UnreadableValue:
    """In the place of a value that could not be read; the reason goes on after its column's name."""

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
    """The sentence as every database takes it: a file's name or a driver's message may hold what none does."""
    if len(message) > MAX_MESSAGE_CHARACTERS:
        message = message[: MAX_MESSAGE_CHARACTERS - 1] + "…"
    if is_storable(message):
        return message
    return message.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
