"""Cron expressions in words, such as `every night at 02:00`. Pure."""

import re
from datetime import datetime

from cronsim import CronSim

DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_OF_WEEK = {name[:3].upper(): str(number) for number, name in enumerate(DAY_NAMES[:7])}
FIRST_HOUR_OF_DAY = 6  # a run before it is at night
STEP = re.compile(r"\*/(\d+)")


def describe(expression: str) -> str:
    """Return a cron expression that `normalize` returned in words.

    Common expressions are phrased as people say them. Others are phrased by cronsim, which knows all of them.
    """
    minute, hour, day, month, weekday = expression.split()
    if (day, month) != ("*", "*"):
        return _phrase_any(expression)
    weekday = re.sub("[A-Z]{3}", lambda match: DAYS_OF_WEEK.get(match[0], match[0]), weekday.upper())
    days = _phrase_days(weekday)
    if days is None:
        return _phrase_any(expression)
    if minute.isdigit() and hour.isdigit():
        time = f"{int(hour):02}:{int(minute):02}"
        return f"every {'night' if days == 'day' and int(hour) < FIRST_HOUR_OF_DAY else days} at {time}"
    if weekday != "*":
        return _phrase_any(expression)
    return _phrase_interval(minute, hour) or _phrase_any(expression)


def _phrase_days(weekday: str) -> str | None:
    if weekday == "*":
        return "day"
    if weekday == "1-5":
        return "weekday"
    return DAY_NAMES[int(weekday)] if weekday in tuple("01234567") else None


def _phrase_interval(minute: str, hour: str) -> str | None:
    """Return the words of an expression that is the same every day."""
    minute_step, hour_step = STEP.fullmatch(minute), STEP.fullmatch(hour)
    if hour == "*" and minute == "*":
        return "every minute"
    if hour == "*" and minute_step and 60 % int(minute_step[1]) == 0:
        return f"every {minute_step[1]} minutes" if minute_step[1] != "1" else "every minute"
    if not minute.isdigit():
        return None
    past = "" if minute == "0" else f", {minute} min past the hour"
    if hour == "*":
        return f"every hour{past}"
    if hour_step and int(hour_step[1]) > 1 and 24 % int(hour_step[1]) == 0:
        return f"every {hour_step[1]} hours{past}"
    return None


def _phrase_any(expression: str) -> str:
    words = CronSim(expression, datetime(2000, 1, 1)).explain()
    return f"{words[:1].lower()}{words[1:]}"
