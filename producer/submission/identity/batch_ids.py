"""Ids of batches.

An id is `batch_` and 20 characters of Crockford's base32, lower-case, so there is no i, l, o or u to misread. They hold
the time in 48 bits and random bits, so that ids sort by the time of submission.
"""

import secrets
import time

ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_CHARACTERS = 20
ID_RANDOM_BITS = 52


def new_batch_id() -> str:
    """An id for a batch that is submitted now."""
    return format_batch_id(time.time_ns() // 1_000_000, secrets.randbits(ID_RANDOM_BITS))


def format_batch_id(milliseconds: int, random_bits: int) -> str:
    """The id of a time since 1970 and of `ID_RANDOM_BITS` random bits."""
    number = milliseconds << ID_RANDOM_BITS | random_bits
    digits = (ID_ALPHABET[number >> shift & 31] for shift in range(5 * (ID_CHARACTERS - 1), -1, -5))
    return "batch_" + "".join(digits)
