"""Checks on short parameter texts, such as labels, that every database must be able to store."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from pydantic_core import PydanticCustomError

MAX_SHORT_TEXT_CHARACTERS = 1_000  # characters; a label is a few words, a template a sentence


def is_storable(value: str) -> bool:
    """Return False for text with a NUL character or half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value


def _check_storable(value: str) -> str:
    if not is_storable(value):
        raise PydanticCustomError("word", "it has a NUL character or half a surrogate pair, which no database stores")
    return value


ShortText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_SHORT_TEXT_CHARACTERS), AfterValidator(_check_storable)
]
