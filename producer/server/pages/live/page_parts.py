"""The parts of each kind of page that follow what happens."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from producer.batches.batch_view import BatchView
from producer.server.context import ServerContext
from producer.server.pages.batches import batch_parts
from producer.server.pages.live.parts import LivePage, LivePart
from producer.server.pages.operations import pipeline_page, pipelines, usage, workers
from producer.server.pages.overview import overview
from producer.server.pages.overview.glance import Glance
from producer.server.pages.schedules import run_page, schedule_list, schedule_page
from producer.tenants.principal import Principal


def _open_overview(context: ServerContext, principal: Principal, _shown: str) -> Glance:
    return Glance(context, principal.tenant)


def _of_overview(name: str, seconds: float, clock_seconds: float) -> LivePart:
    return LivePart(name, f"overview/_{name}.html", overview.values_of, seconds, clock_seconds)


def _of_batch(name: str, seconds: float, clock_seconds: float | None = None) -> LivePart:
    template, values_of = batch_parts.PARTS[name]
    return LivePart(name, template, values_of, seconds, clock_seconds)


def _read_facts(context: ServerContext, principal: Principal, batch: BatchView) -> Mapping[str, Any]:
    """Read the facts with the model versions, which are read with the distribution."""
    versions = batch_parts.distribution_values(context, principal, batch)
    return {**versions, **batch_parts.facts_values(context, principal, batch)}


def _all_of(area: str, templates: Mapping[str, str], seconds: float, clock_seconds: float) -> tuple[LivePart, ...]:
    """Parts that show what their page reads at once: the name of each, and that of its template."""
    return tuple(
        LivePart(name, f"{area}/_{template}.html", _read_all, seconds, clock_seconds)
        for name, template in templates.items()
    )


def _read_all(_context: ServerContext, _principal: Principal, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return values


SCHEDULE_PARTS = {
    "notices": "notices",
    "facts": "facts",
    "calendar": "calendar",
    "charts": "charts",
    "runs": "runs",
    "next": "next_runs",
    "events": "events",
}
RUN_PARTS = {
    "actions": "run_actions",
    "notices": "run_notices",
    "facts": "run_facts",
    "times": "run_times",
    "events": "events",
    "quality": "run_quality",
}
PIPELINE_PARTS = {"notices": "pipeline_notices", "now": "pipeline_now", "versions": "pipeline_versions"}
WORKER_PARTS = {
    "load-failures": "load_failures",
    "processes": "processes",
    "devices": "devices",
    "services": "services",
}


def _open_nothing(_context: ServerContext, _principal: Principal, _shown: str) -> None:
    """What a page without parts has in common."""


# What moves with the clock alone, such as a pace and the silence of a worker, is looked at again now and then. The
# times are multiples of each other, so that parts which read the same are due together.
PAGES: Mapping[str, LivePage] = {
    "overview": LivePage(
        _open_overview,
        (
            _of_overview("facts", 4.0, 16.0),
            _of_overview("attention", 16.0, 64.0),
            _of_overview("throughput", 16.0, 64.0),
            _of_overview("backlog", 4.0, 32.0),
            _of_overview("failures", 16.0, 64.0),
            replace(_of_overview("workers", 8.0, 16.0), is_for_operator=True),
            _of_overview("newest", 4.0, 64.0),
        ),
    ),
    "batches": LivePage(_open_nothing),
    "batch": LivePage(
        ServerContext.get_batch,
        (
            _of_batch("progress", 2.0, 30.0),
            LivePart("actions", "batches/_actions.html", batch_parts.PARTS["failures"][1], 10.0),
            _of_batch("failures", 10.0),
            _of_batch("pace", 10.0),
            _of_batch("distribution", 30.0),
            LivePart("facts", "batches/_facts.html", _read_facts, 30.0),
            _of_batch("attempts", 20.0),
        ),
    ),
    "schedules": LivePage(
        schedule_list.read_list, _all_of("schedules", {"attention": "attention", "list": "list"}, 4.0, 16.0)
    ),
    "schedule": LivePage(schedule_page.read_schedule, _all_of("schedules", SCHEDULE_PARTS, 4.0, 16.0)),
    "run": LivePage(run_page.read_run, _all_of("schedules", RUN_PARTS, 4.0, 8.0)),
    "workers": LivePage(workers.read_workers, _all_of("operations", WORKER_PARTS, 8.0, 8.0)),
    "pipelines": LivePage(pipelines.read_pipelines, _all_of("operations", {"pipelines": "pipeline_lists"}, 8.0, 16.0)),
    "pipeline": LivePage(
        pipeline_page.read_pipeline,
        (
            *_all_of("operations", PIPELINE_PARTS, 8.0, 16.0),
            LivePart("serving", "operations/_pipeline_workers.html", _read_all, 8.0, 16.0, is_for_operator=True),
        ),
    ),
    "usage": LivePage(usage.read_report, _all_of("operations", {"report": "usage_report"}, 64.0, 64.0)),
    "pulse": LivePage(_open_nothing),
}
