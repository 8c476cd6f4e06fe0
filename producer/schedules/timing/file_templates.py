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
NUMERIC_DIRECTIVES = "YmdHMSjyGVu"
NUMERIC_FORMAT = re.compile(rf"(?:[^%{{}}]|%[{NUMERIC_DIRECTIVES}])*")
TIMES_COMPARED = 60


def check_template(template: str, cron: Cron) -> str:
    """A pattern that gives every slot a name of its own; raises UsageError."""
    if "\0" in template or not template.strip():
        raise UsageError(f"{_quote(template)} is no file's name; write it such as {EXAMPLE}")
    if not any(said for _, said in _split(template)):
        raise UsageError(
            f"{_quote(template)} has no slot in it, so every run would read the same; write it such as {EXAMPLE}"
        )
    slots = islice(cron.times_after(datetime.fromisoformat("2026-01-01T00:00Z")), TIMES_COMPARED)
    for one, following in pairwise(slots):
        if render(template, one, cron) == render(template, following, cron):
            times = f"{_to_local(one, cron):%Y-%m-%d %H:%M} and {_to_local(following, cron):%Y-%m-%d %H:%M}"
            raise UsageError(f"{_quote(template)} is the same for the slots of {times}; put more of the time in it")
    return template


def render(template: str, scheduled_at: datetime, cron: Cron) -> str:
    """The name for a slot, by the clocks of the schedule's zone; it may still be a pattern, of several files."""
    local = _to_local(scheduled_at, cron)
    return "".join(literal + (local.strftime(said) if said else "") for literal, said in _split(template))


def make_absolute(template: str, folder: Path) -> str:
    """The pattern with a path that starts at the root; URLs stay."""
    if "://" in template:
        return template
    path = Path(template).expanduser()
    if path.is_absolute():
        return str(path)
    above = glob.escape(str(folder.absolute())).replace("{", "{{").replace("}", "}}")
    return str(Path(above) / path)


def _quote(template: str) -> str:
    return f"file {urls.redact_path(template)[:80]!r}"


def _split(template: str) -> Iterator[tuple[str, str | None]]:
    """What stands as it is, each time with the format that follows."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise UsageError(f"{_quote(template)} has a brace too many; write it such as {EXAMPLE}") from None
    for literal, field, said, conversion in parts:
        if field is not None and (field != "slot" or conversion or not said):
            raise UsageError(f"{_quote(template)}: only {{slot:%Y-%m-%d}} and its like can stand in braces")
        if said and not (NUMERIC_FORMAT.fullmatch(said) and "%" in said):
            listed = ", ".join(f"%{letter}" for letter in NUMERIC_DIRECTIVES)
            raise UsageError(f"{_quote(template)}: {said[:40]!r} is no format of numbers; take of {listed}")
        yield literal, said or None


def _to_local(scheduled_at: datetime, cron: Cron) -> datetime:
    return scheduled_at.astimezone(cron.zone_info)
