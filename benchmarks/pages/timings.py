"""The server's time for each page and for each of its parts, and the bytes of a first load."""

import gzip
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from starlette.testclient import TestClient

from benchmarks.pages.seeding import LARGE_BATCH_ID, PIPELINES
from producer.server.context import ServerContext
from producer.server.pages.live import parts
from producer.server.pages.live.page_parts import PAGES as LIVE_PAGES
from producer.server.pages.live.parts import LivePage, LivePart
from producer.server.pages.operations.usage import UsageFilter
from producer.server.pages.schedules.schedule_list import ScheduleFilter
from producer.tenants.principal import OPERATOR

PAGES = {
    "overview": "/",
    "batches": "/batches",
    "batches, failed ones": "/batches?status=failed",
    "batches, by a part of the name": "/batches?q=day+7",
    "batch of a million jobs": f"/batches/{LARGE_BATCH_ID}",
    "results": f"/batches/{LARGE_BATCH_ID}/results",
    "results, failed ones": f"/batches/{LARGE_BATCH_ID}/results?status=failed",
    "one row": f"/batches/{LARGE_BATCH_ID}/rows/500000",
    "small batch": "/batches/batch_000050",
    "schedules": "/schedules",
    "usage": "/usage",
    "workers": "/workers",
    "pipelines": "/pipelines",
    "one pipeline": f"/pipelines/{PIPELINES[0]}",
}


# What each page with live parts shows.
SUBJECTS: Mapping[str, Hashable] = {
    "overview": "",
    "batch": LARGE_BATCH_ID,
    "schedules": ScheduleFilter(),
    "workers": 1,
    "pipelines": "",
    "usage": UsageFilter(),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of many calls.

    cpu: of this process, the median; less than the time that passes where the machine is busy, or a database works
    bytes: of the last answer, compressed; 0 for a part
    """

    name: str
    p50: float
    p99: float
    first: float
    cpu: float
    bytes: int = 0
    status: int = 200


def time_pages(client: TestClient, rounds: int) -> list[Timing]:
    """Time each page in this process, without a network."""
    timings = []
    for name, path in PAGES.items():
        response = client.get(path, headers={"accept-encoding": "gzip"})  # imports and plans of the first call
        milliseconds = _time(partial(client.get, path), rounds)
        size = len(gzip.compress(response.content, 5))
        timings.append(_summarise(name, milliseconds, bytes=size, status=response.status_code))
    return timings


def time_parts(context: ServerContext, rounds: int) -> list[Timing]:
    """Time each part that open pages are sent: reading and rendering."""
    audience = parts.audience_of(OPERATOR)
    timings = []
    for kind, subject in SUBJECTS.items():
        page = LIVE_PAGES[kind]
        for part in page.parts:

            def show(page: LivePage = page, part: LivePart = part, subject: Hashable = subject) -> None:
                opened = page.open(context, OPERATOR, subject)
                parts.render_part(part.template, audience, "/", part.read(context, OPERATOR, opened))

            show()
            timings.append(_summarise(f"{kind}: {part.name}", _time(show, rounds)))
    return timings


def first_load_bytes(client: TestClient, path: str = "/") -> int:
    """The bytes of a page with its scripts, styles and icon, compressed as they are sent."""
    page = client.get(path)
    addresses = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
    files = (client.get(address.replace("&amp;", "&")).content for address in addresses)
    return sum(len(gzip.compress(content, 9)) for content in (page.content, *files))


def _time(act: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """Return the milliseconds of each call, and those of the processor."""
    milliseconds = []
    for _ in range(rounds):
        started, processor = time.perf_counter(), time.process_time()
        act()
        passed = time.perf_counter() - started
        milliseconds.append((1000 * passed, 1000 * (time.process_time() - processor)))
    return milliseconds


def _summarise(name: str, milliseconds: Sequence[tuple[float, float]], **fields: int) -> Timing:
    ordered = sorted(passed for passed, _ in milliseconds)
    processor = sorted(cpu for _, cpu in milliseconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    middle, first = ordered[len(ordered) // 2], milliseconds[0][0]
    cpu = processor[len(processor) // 2]
    return Timing(name, round(middle, 1), round(p99, 1), round(first, 1), round(cpu, 1), **fields)
