"""`/schedules`: all schedules, with their last runs and their next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from producer.schedules import registry, status
from producer.schedules.history import run_marks, run_verdicts
from producer.schedules.history.run_marks import RunMark
from producer.schedules.status import ScheduleStatus
from producer.schedules.timing import cron_words
from producer.server.context import Context, ServerContext
from producer.server.pages.access.visitor import PageReader
from producer.server.pages.frame.rendering import render_part
from producer.server.pages.schedules import addresses, run_bars
from producer.server.pages.schedules.run_bars import Bar
from producer.tenants.principal import Principal

router = APIRouter()

PAGE_SCHEDULES = 25
STATES = ("active", "running", "waiting", "suspended", "overdue", "late", "failed", "missed", "skipped")
DRIFTED = "drifted"  # which is a mark of the last run, beside the state
ATTENTION = "attention"  # all states that people should look at

FilterText = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class ScheduleFilter:
    """Which schedules are shown.

    name: part of the name
    state: one of STATES, `drifted`, or `attention`
    after: the last name of the page before
    """

    name: str = ""
    state: str = ""
    tenant: str = ""
    after: str = ""

    def __bool__(self) -> bool:
        """Whether some schedules are left out."""
        return bool(self.name or self.state or self.tenant)

    def takes(self, item: ScheduleStatus) -> bool:
        """Return whether a schedule is shown."""
        if self.state == ATTENTION:
            is_wanted = item.needs_attention
        elif self.state == DRIFTED:
            is_wanted = item.last_run is not None and run_verdicts.has_drifted(item.last_run)
        else:
            is_wanted = self.state in ("", item.state)
        return is_wanted and self.name.lower() in item.view.name and self.tenant in ("", item.view.tenant)


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule in the list, with its last runs."""

    status: ScheduleStatus
    timing: str
    source: str
    bars: list[Bar]
    runs_in_words: str
    last: RunMark | None
    followers: tuple[str, ...]
    seconds_left: float | None  # until the next run


@router.get("/schedules")
def show_schedules(
    request: Request,
    context: Context,
    visitor: PageReader,
    name: FilterText = "",
    state: FilterText = "",
    tenant: FilterText = "",
    after: FilterText = "",
) -> Response:
    """Show the list."""
    values = read_list(context, visitor.principal, ScheduleFilter(name.strip(), state, tenant, after))
    return render_part(request, visitor, "schedules/_list.html", "schedules/list.html", **values)


def read_list(context: ServerContext, principal: Principal, chosen: ScheduleFilter) -> dict[str, Any]:
    """Return what the page shows: the schedules that fit, those that can't be read, and the deleted ones."""
    now = addresses.current_time(context)
    statuses, unreadable = status.list_readable(context.database, now, principal.tenant)
    fitting = [item for item in statuses if chosen.takes(item)]
    start = sum(item.view.name <= chosen.after for item in fitting)
    shown = fitting[start:]
    return {
        "rows": _rows(context, shown[:PAGE_SCHEDULES], statuses, now),
        "start": start,
        "fitting": len(fitting),
        "after_before": _start_of_page_before([item.view.name for item in fitting], start),
        "has_more": len(shown) > PAGE_SCHEDULES,
        "chosen": chosen,
        "states": (*STATES, DRIFTED),
        "total": len(statuses),
        "attention": sum(item.needs_attention for item in statuses),
        "tenants": sorted({item.view.tenant for item in statuses}) if principal.tenant is None else [],
        "unreadable": unreadable,
        "deleted": registry.list_deleted(context.database, principal.tenant),
        "now": now,
    }


def describe_source(item: ScheduleStatus) -> str:
    """Return where the rows come from, in a few words."""
    definition = item.view.definition
    if definition.after is not None:
        return f"results of {definition.after}"
    return f"query {definition.sql}" if definition.sql is not None else "files"


def describe_timing(item: ScheduleStatus) -> str:
    """Return when a schedule runs, in words."""
    definition = item.view.definition
    if definition.cron is None:
        return f"after each completed run of {definition.after}"
    return cron_words.describe(definition.cron)


def _start_of_page_before(names: Sequence[str], start: int) -> str:
    """Return the name after which the page before begins; empty for the first page."""
    return names[start - PAGE_SCHEDULES - 1] if start > PAGE_SCHEDULES else ""


def _rows(
    context: ServerContext, shown: Sequence[ScheduleStatus], all_statuses: Sequence[ScheduleStatus], now: datetime
) -> list[ScheduleRow]:
    marks = run_marks.last_marks(context.database, [item.view.name for item in shown], run_bars.RUNS)
    return [_row(item, marks[item.view.name], all_statuses, now) for item in shown]


def _row(
    item: ScheduleStatus, marks: Sequence[RunMark], all_statuses: Sequence[ScheduleStatus], now: datetime
) -> ScheduleRow:
    view = item.view
    return ScheduleRow(
        item,
        describe_timing(item),
        describe_source(item),
        run_bars.bars_for(marks, view.definition),
        run_bars.summarize(marks),
        marks[-1] if marks else None,
        tuple(other.view.name for other in all_statuses if other.view.definition.after == view.name),
        None if view.next_run_at is None else (view.next_run_at - now).total_seconds(),
    )
