"""The server's time for each page and for each of its parts, and the bytes of a first load."""

import gzip
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.testclient import TestClient

from benchmarks.pages.seeding import LARGE_BATCH_ID, PIPELINES
from producer.server.context import ServerContext
from producer.server.pages.live import parts
from producer.server.pages.live.page_parts import PARTS
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


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of many calls.

    bytes: of the last answer, compressed; 0 for a part
    """

    name: str
    p50: float
    p99: float
    first: float
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
    for kind, subject in (("overview", ""), ("batch", LARGE_BATCH_ID)):
        for part in PARTS[kind]:

            def show(part: Any = part, subject: str = subject) -> None:
                parts.render_part(part.template, audience, "/", part.read(context, OPERATOR, subject))

            show()
            timings.append(_summarise(f"{kind}: {part.name}", _time(show, rounds)))
    return timings


def first_load_bytes(client: TestClient, path: str = "/") -> int:
    """The bytes of a page with its scripts, styles and icon, compressed as they are sent."""
    page = client.get(path)
    addresses = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
    files = (client.get(address.replace("&amp;", "&")).content for address in addresses)
    return sum(len(gzip.compress(content, 9)) for content in (page.content, *files))


def _time(act: Callable[[], object], rounds: int) -> list[float]:
    milliseconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        milliseconds.append(1000 * (time.perf_counter() - started))
    return milliseconds


def _summarise(name: str, milliseconds: Sequence[float], **fields: int) -> Timing:
    ordered = sorted(milliseconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    middle, first = ordered[len(ordered) // 2], milliseconds[0]
    return Timing(name, round(middle, 1), round(p99, 1), round(first, 1), **fields)
