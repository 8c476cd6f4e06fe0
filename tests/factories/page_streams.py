"""The events that an open page is sent."""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers import WAIT_TIMEOUT_SECONDS

MAX_SECONDS = WAIT_TIMEOUT_SECONDS


@contextmanager
def following(address: str, path: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """Yield the events of a stream: names with their documents."""
    with urllib.request.urlopen(f"{address}{path}", timeout=MAX_SECONDS) as response:
        yield parse(line.decode().rstrip("\n") for line in response)


def parse(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Yield the events; a stream goes on for ever, a test does not."""
    name, end = "", time.monotonic() + MAX_SECONDS
    for line in lines:
        assert time.monotonic() < end
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def next_part(events: Iterator[tuple[str, Any]]) -> Any:
    """Return the next part."""
    return next(document for name, document in events if name == "part")
