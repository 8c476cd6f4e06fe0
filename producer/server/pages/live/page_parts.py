"""The parts of each kind of page that follow what happens."""

from collections.abc import Mapping

from producer.server.pages.live.parts import LivePart
from producer.server.pages.overview import overview


def _of_overview(name: str, seconds: float, clock_seconds: float) -> LivePart:
    return LivePart(name, f"overview/_{name}.html", overview.read_values, seconds, clock_seconds)


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
    "batch": (),
}
