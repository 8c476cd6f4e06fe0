"""Storable: what text every database takes."""


def is_storable(value: str) -> bool:
    """Whether every database can store this text: no NUL, no lone surrogate."""
    if value.isascii():
        return "\0" not in value
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
