"""Batch ids are `batch_` and 20 characters that sort by the time of submission."""

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32, lower-case: no i, l, o, u to misread
LENGTH = 20
RANDOM_BITS = 52  # 20 characters hold 100 bits; 48 of them are the time in milliseconds


def new_batch_id() -> str:
    """An id for a batch that is submitted now."""
    return format_batch_id(time.time_ns() // 1_000_000, secrets.randbits(RANDOM_BITS))


def format_batch_id(milliseconds: int, random_bits: int) -> str:
    """The id of a time since 1970 and of `RANDOM_BITS` random bits."""
    number = milliseconds << RANDOM_BITS | random_bits
    digits = (ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))
    return "batch_" + "".join(digits)
