"""The parts of each kind of page that follow what happens."""

from collections.abc import Mapping
from typing import Any

from producer.server.context import ServerContext
from producer.server.pages.batches import batch_parts
from producer.server.pages.live.parts import LivePart
from producer.server.pages.overview import overview
from producer.tenants.principal import Principal


def _of_overview(name: str, seconds: float, clock_seconds: float) -> LivePart:
    return LivePart(name, f"overview/_{name}.html", overview.read_values, seconds, clock_seconds)


def _of_batch(name: str, seconds: float, clock_seconds: float | None = None) -> LivePart:
    template, _ = batch_parts.PARTS[name]
    return LivePart(name, template, batch_parts.reader_of(name), seconds, clock_seconds)


def _read_facts(context: ServerContext, principal: Principal, batch_id: str) -> Mapping[str, Any]:
    """Read the facts with the model versions, which are read with the distribution."""
    batch = context.get_batch(principal, batch_id)
    versions = batch_parts.distribution_values(context, principal, batch)
    return {**versions, **batch_parts.facts_values(context, principal, batch)}


# What moves with the clock alone, such as a pace and the silence of a worker, is looked at again now and then.
PARTS: Mapping[str, tuple[LivePart, ...]] = {
    "overview": (
        _of_overview("facts", 4.0, 15.0),
        _of_overview("attention", 15.0, 60.0),
        _of_overview("throughput", 15.0, 60.0),
        _of_overview("backlog", 5.0, 30.0),
        _of_overview("failures", 15.0, 60.0),
        _of_overview("workers", 10.0, 15.0),
        _of_overview("newest", 3.0, 60.0),
    ),
    "batches": (),
    "batch": (
        _of_batch("progress", 2.0, 30.0),
        LivePart("actions", "batches/_actions.html", batch_parts.reader_of("failures"), 10.0),
        _of_batch("failures", 10.0),
        _of_batch("pace", 10.0),
        _of_batch("distribution", 30.0),
        LivePart("facts", "batches/_facts.html", _read_facts, 30.0),
        _of_batch("attempts", 15.0),
    ),
}
