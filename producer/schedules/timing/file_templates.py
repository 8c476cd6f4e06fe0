"""File templates, which put the scheduled time into a file's name, such as `in/{time:%Y-%m-%d}.jsonl`.

Only `{time:…}` with numeric strftime directives is replaced; `{{` and `}}` are braces. A template cannot reach an
object's attributes, and it inserts only digits, so no time can lead to another folder.
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

EXAMPLE = "in/{time:%Y-%m-%d}.jsonl"
# Directives that give only digits in every locale: year, month, day, hour, minute, second, day of the year, two-digit
# year; then ISO year, week and weekday.
NUMERIC_DIRECTIVES = "YmdHMSjyGVu"
NUMERIC_FORMAT = re.compile(rf"(?:[^%{{}}]|%[{NUMERIC_DIRECTIVES}])*")
TIMES_COMPARED = 60


def check_template(template: str, cron: Cron) -> str:
    """Return a template that gives every run a different name; raises UsageError."""
    if "\0" in template or not template.strip():
        raise UsageError(f"{_quote(template)} is no file's name; write it such as {EXAMPLE}")
    if not any(time_format for _, time_format in _split(template)):
        raise UsageError(
            f"{_quote(template)} has no {{time:…}} in it, so every run would read the same; write it such as {EXAMPLE}"
        )
    scheduled_times = islice(cron.times_after(datetime.fromisoformat("2026-01-01T00:00Z")), TIMES_COMPARED)
    for first, second in pairwise(scheduled_times):
        if render(template, first, cron) == render(template, second, cron):
            times = f"{_to_local(first, cron):%Y-%m-%d %H:%M} and {_to_local(second, cron):%Y-%m-%d %H:%M}"
            raise UsageError(f"{_quote(template)} is the same for the runs of {times}; put more of the time in it")
    return template


def render(template: str, scheduled_at: datetime, cron: Cron) -> str:
    """Return the name for a scheduled time, in the schedule's zone; it may still be a glob pattern."""
    local = _to_local(scheduled_at, cron)
    return "".join(
        literal + (local.strftime(time_format) if time_format else "") for literal, time_format in _split(template)
    )


def make_absolute(template: str, folder: Path) -> str:
    """Return the pattern with an absolute path; URLs are unchanged."""
    if "://" in template:
        return template
    path = Path(template).expanduser()
    if path.is_absolute():
        return str(path)
    prefix = glob.escape(str(folder.absolute())).replace("{", "{{").replace("}", "}}")
    return str(Path(prefix) / path)


def _quote(template: str) -> str:
    return f"file {urls.redact_path(template)[:80]!r}"


def _split(template: str) -> Iterator[tuple[str, str | None]]:
    """Yield each literal part with the time format that follows it."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        raise UsageError(f"{_quote(template)} has a brace too many; write it such as {EXAMPLE}") from None
    for literal, field, time_format, conversion in parts:
        if field is not None and (field != "time" or conversion or not time_format):
            raise UsageError(f"{_quote(template)}: only {{time:%Y-%m-%d}} and its like can stand in braces")
        if time_format and not (NUMERIC_FORMAT.fullmatch(time_format) and "%" in time_format):
            directives = ", ".join(f"%{letter}" for letter in NUMERIC_DIRECTIVES)
            raise UsageError(f"{_quote(template)}: {time_format[:40]!r} is no format of numbers; take of {directives}")
        yield literal, time_format or None


def _to_local(scheduled_at: datetime, cron: Cron) -> datetime:
    return scheduled_at.astimezone(cron.zone_info)
