"""The parts of each kind of page that follow what happens."""

from collections.abc import Mapping
from typing import Any

from producer.batches.batch_view import BatchView
from producer.server.context import ServerContext
from producer.server.pages.batches import batch_parts
from producer.server.pages.live.parts import LivePage, LivePart
from producer.server.pages.overview import overview
from producer.server.pages.overview.glance import Glance
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
            _of_overview("workers", 8.0, 16.0),
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
    "pulse": LivePage(_open_nothing),
}
