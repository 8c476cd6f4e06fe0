"""How pages write numbers, durations and times; every number has its unit."""

import time
from datetime import UTC, datetime

from markupsafe import Markup

from models.privacy.terminal import format_count

MISSING = "–"  # noqa: RUF001 (an en dash, which is what it looks like)
MIN_TENTHS = 0.095  # seconds; fewer are written in milliseconds
UNITS = ("B", "kB", "MB", "GB", "TB")
LARGE_UNITS = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def number(value: float | None, digits: int = 0) -> str:
    """1234567 as `1,234,567`; with digits, a value that is not 0 never reads as 0."""
    if value is None:
        return MISSING
    if digits and 0 < value < 0.5 * 10**-digits:
        return f"< {10**-digits:.{digits}f}"
    return f"{value:.3g}" if abs(value) >= 1e15 else f"{value:,.{digits}f}"


def share(part: float | None, whole: float | None = 1.0) -> str:
    """A part of a whole as `12.3 %`; neither 0 % nor 100 % unless it is exactly that."""
    if part is None or not whole:
        return MISSING
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def rate(per_second: float | None, unit: str = "jobs") -> str:
    """A pace as `375 jobs/s`, or per minute where it is slow."""
    if per_second is None:
        return MISSING
    if per_second and per_second < 0.95:
        return f"{per_second * 60:.1f} {unit}/min"
    return rate_per_second(per_second, unit)


def rate_per_second(per_second: float | None, unit: str = "jobs") -> str:
    """A pace in a column, where all have one unit: `375 jobs/s`, `2.3 jobs/s` or `0.04 jobs/s`."""
    if per_second is None:
        return MISSING
    digits = 2 if 0 < per_second < 0.95 else 0 if per_second >= 100 else 1
    return f"{number(per_second, digits)} {unit}/s"


def duration(seconds: float | None) -> str:
    """Seconds as `21 ms`, `0.4 s`, `3 min 20 s`, `2 h 5 min` or `3 d 4 h`."""
    if seconds is None:
        return MISSING
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if 0 < seconds < MIN_TENTHS:
        return f"{max(1, round(1000 * seconds))} ms"
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit_seconds, unit, smaller_seconds, smaller in LARGE_UNITS:
        if whole >= unit_seconds:
            rest = whole % unit_seconds // smaller_seconds
            return f"{whole // unit_seconds} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def size(count: float | None) -> str:
    """Bytes as `1.2 MB`, in powers of 1,000."""
    if count is None:
        return MISSING
    value = float(count)
    for unit in UNITS:
        digits = 0 if unit == "B" else 1
        if round(value, digits) < 1000 or unit == UNITS[-1]:
            return f"{value:,.{digits}f} {unit}"
        value /= 1000
    raise AssertionError


def moment(value: datetime | None) -> str:
    """A `<time>` in UTC, which the page's script rewrites in the reader's time zone."""
    if value is None:
        return MISSING
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(_iso(utc), _text(utc))


def age(value: datetime | None) -> str:
    """The same as an age, such as `5 min ago`."""
    if value is None:
        return MISSING
    utc = value.astimezone(UTC)
    seconds = max(0.0, (datetime.now(UTC) - utc).total_seconds())
    return Markup('<time datetime="{}" data-age title="{}">{} ago</time>').format(
        _iso(utc), _text(utc), _largest_unit(seconds)
    )


def now_milliseconds() -> int:
    """The server's time as a page carries it, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _iso(utc: datetime) -> str:
    return utc.isoformat(timespec="seconds").replace("+00:00", "Z")


def _text(utc: datetime) -> str:
    return utc.strftime("%Y-%m-%d %H:%M:%S UTC")


def _largest_unit(seconds: float) -> str:
    for unit_seconds, unit, *_smaller in LARGE_UNITS:
        if seconds >= unit_seconds:
            return f"{seconds // unit_seconds:.0f} {unit}"
    return f"{seconds:.0f} s"


FILTERS = {
    "number": number,
    "counted": format_count,
    "share": share,
    "rate": rate,
    "rate_per_second": rate_per_second,
    "duration": duration,
    "size": size,
    "moment": moment,
    "age": age,
}
