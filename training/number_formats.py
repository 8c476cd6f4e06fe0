"""Dates, amounts and times of day in common formats."""

import random
from collections.abc import Sequence


def random_date(rng: random.Random, months: Sequence[str]) -> str:
    """Return a date, with or without the year or the day."""
    day, month, year = rng.randint(1, 28), rng.choice(months), rng.randint(1800, 2030)
    return rng.choice(
        (f"{day} {month} {year}", f"{month} {day}, {year}", f"{day} {month}", f"{month} {day}", f"{month} {year}")
    )


def random_amount(rng: random.Random) -> str:
    """Return an amount of some currency."""
    amount = rng.choice((rng.randint(2, 99), rng.randint(100, 999), rng.randint(2, 90) * 1000))
    signed = tuple(f"{sign}{amount:,}" for sign in "$£€")
    return rng.choice((*signed, f"{amount} dollars", f"{amount} euros", f"{amount:,} dollars"))


def random_number(rng: random.Random, words: Sequence[str]) -> str:
    """Return a number, in digits or as a word."""
    return rng.choice((str(rng.randint(2, 99)), f"{rng.randint(100, 9999):,}", rng.choice(words)))


def random_time(rng: random.Random) -> str:
    """Return a time of day."""
    hour, minute = rng.randint(1, 12), rng.randint(0, 59)
    return rng.choice((f"{hour} o'clock", f"{hour}:{minute:02}", f"{hour} a.m.", f"{hour} p.m.", "noon", "midnight"))
