"""Storable: what text every database takes; and values that came as none that Python has."""

from dataclasses import dataclass

LONGEST_NOTE = 2000  # characters of a sentence about what went wrong


@dataclass(frozen=True, slots=True)
class Unreadable:
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


def storable(sentence: str) -> str:
    """The sentence as every database takes it: a file's name or a driver's message may hold what none does."""
    if len(sentence) > LONGEST_NOTE:
        sentence = sentence[: LONGEST_NOTE - 1] + "…"
    if is_storable(sentence):
        return sentence
    return sentence.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
