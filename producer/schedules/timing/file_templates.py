"""Patterns: a file's name with the slot in it, such as `in/{slot:%Y-%m-%d}.jsonl`.

Only `{slot:…}` with strftime's numbers stands for something; `{{` and `}}` are braces. Nothing of an object can be
reached by it, and what it puts in is digits, so that a slot can't lead to another folder.
"""

import glob
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, pairwise
from pathlib import Path
from string import Formatter

from models.errors import UsageError
from models.privacy import urls
from producer.schedules.timing.cron import Cron

EXAMPLE = "in/{slot:%Y-%m-%d}.jsonl"
# What gives digits alone, in every locale: year, month, day, hour, minute, second, day of the year, year of two digits,
# and ISO's year, week and weekday.
NUMBERS = "YmdHMSjyGVu"
FORMAT = re.compile(rf"(?:[^%{{}}]|%[{NUMBERS}])*")
SLOTS_COMPARED = 60


def checked(pattern: str, cron: Cron) -> str:
    """A pattern that gives every slot a name of its own; raises UsageError."""
    if "\0" in pattern or not pattern.strip():
        raise UsageError(f"{_said(pattern)} is no file's name; write it such as {EXAMPLE}")
    if not any(said for _, said in _parts(pattern)):
        raise UsageError(
            f"{_said(pattern)} has no slot in it, so every run would read the same; write it such as {EXAMPLE}"
        )
    slots = islice(cron.after(datetime.fromisoformat("2026-01-01T00:00Z")), SLOTS_COMPARED)
    for one, following in pairwise(slots):
        if named(pattern, one, cron) == named(pattern, following, cron):
            times = f"{_local(one, cron):%Y-%m-%d %H:%M} and {_local(following, cron):%Y-%m-%d %H:%M}"
            raise UsageError(f"{_said(pattern)} is the same for the slots of {times}; put more of the time in it")
    return pattern


def named(pattern: str, slot: datetime, cron: Cron) -> str:
    """The name for a slot, by the clocks of the schedule's zone; it may still be a pattern, of several files."""
    local = _local(slot, cron)
    return "".join(literal + (local.strftime(said) if said else "") for literal, said in _parts(pattern))


def located(pattern: str, folder: Path) -> str:
    """The pattern with a path that starts at the root; URLs stay."""
    if "://" in pattern:
        return pattern
    path = Path(pattern).expanduser()
    if path.is_absolute():
        return str(path)
    above = glob.escape(str(folder.absolute())).replace("{", "{{").replace("}", "}}")
    return str(Path(above) / path)


def _said(pattern: str) -> str:
    return f"file {urls.shown_file(pattern)[:80]!r}"


def _parts(pattern: str) -> Iterator[tuple[str, str | None]]:
    """What stands as it is, each time with the format that follows."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError:
        raise UsageError(f"{_said(pattern)} has a brace too many; write it such as {EXAMPLE}") from None
    for literal, field, said, conversion in parts:
        if field is not None and (field != "slot" or conversion or not said):
            raise UsageError(f"{_said(pattern)}: only {{slot:%Y-%m-%d}} and its like can stand in braces")
        if said and not (FORMAT.fullmatch(said) and "%" in said):
            listed = ", ".join(f"%{letter}" for letter in NUMBERS)
            raise UsageError(f"{_said(pattern)}: {said[:40]!r} is no format of numbers; take of {listed}")
        yield literal, said or None


def _local(slot: datetime, cron: Cron) -> datetime:
    return slot.astimezone(cron.clock)
