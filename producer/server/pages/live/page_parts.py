"""The parts of each kind of page that follow what happens."""

from collections.abc import Mapping

from producer.server.pages.live.parts import LivePart

PARTS: Mapping[str, tuple[LivePart, ...]] = {"overview": (), "batches": (), "batch": ()}
