"""The last runs of a schedule as bars: their height is the number of rows, their colour the state. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.privacy.terminal import format_count
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.history import calendar_runs
from producer.schedules.history.calendar import Cell
from producer.schedules.history.run_marks import RunMark
from producer.server.pages.frame import formats
from producer.server.pages.schedules.addresses import run_address

RUNS = 30
STEP, WIDTH, HEIGHT = 7, 5, 28
MIN_HEIGHT = 3.0  # of a run that read no rows
STUB_HEIGHT = 6.0  # of a run without results: missed, skipped, or not ended


@dataclass(frozen=True, slots=True)
class Bar:
    """One run.

    tone: the state, as the class of its colour
    text: what the bar shows, in words
    """

    x: int
    y: float
    height: float
    tone: str
    text: str
    address: str


def bars_for(marks: Sequence[RunMark], definition: ScheduleDefinition) -> list[Bar]:
    """Return a bar for each run, the latest on the right."""
    highest = max((mark.rows or 0 for mark in marks), default=0)
    first = RUNS - len(marks)
    return [_bar(mark, definition, (first + number) * STEP, highest) for number, mark in enumerate(marks)]


def summarize(marks: Sequence[RunMark]) -> str:
    """Return how the runs ended, such as `last 30 runs: 28 completed, 2 failed`."""
    states = [calendar_runs.state_of(mark) for mark in marks]
    counts = [f"{states.count(state)} {state}" for state in reversed(calendar_runs.STATES) if state in states]
    return (
        f"{'last run' if len(marks) == 1 else f'last {len(marks)} runs'}: {', '.join(counts)}"
        if counts
        else "no runs yet"
    )


def describe_mark(mark: RunMark, definition: ScheduleDefinition) -> str:
    """Return a run in words, such as `Tue 2026-11-24 02:00 CET: completed, 4,810 rows, 3 min 10 s`."""
    parts = [calendar_runs.state_of(mark)]
    if mark.error_code:
        parts.append(mark.error_code[:80])
    if mark.rows is not None:
        parts.append(format_count(mark.rows, "row"))
    if mark.failed:
        parts.append(f"{mark.failed:,} of them failed")
    if mark.seconds is not None:
        parts.append(formats.duration(mark.seconds))
    return f"{definition.format_time(mark.scheduled_at)}: {', '.join(parts)}"


def describe_cell(cell: Cell, definition: ScheduleDefinition) -> str:
    """Return the runs of a day or an hour in words; `60 runs: 2 failed, 58 completed` if they are several."""
    if cell.count == 1 and cell.worst.mark is not None:
        return describe_mark(cell.worst.mark, definition)
    counts = ", ".join(f"{count:,} {state}" for state, count in cell.counts)
    rows = "" if cell.rows is None else f", {format_count(cell.rows, 'row')}"
    return f"{cell.label}: {format_count(cell.count, 'run')}: {counts}{rows}"


def _bar(mark: RunMark, definition: ScheduleDefinition, x: int, highest: int) -> Bar:
    tone = calendar_runs.state_of(mark)
    if tone == "failed":
        height = float(HEIGHT)  # no rows tell how high, and nobody may overlook it
    elif mark.rows is None:
        height = STUB_HEIGHT
    else:
        height = max(MIN_HEIGHT, round(HEIGHT * mark.rows / (highest or 1), 1))
    text, address = describe_mark(mark, definition), run_address(mark.schedule, mark.scheduled_at)
    return Bar(x, round(HEIGHT - height, 1), height, tone, text, address)
