"""A remote source that stops sending data is abandoned."""

import threading
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from models import tasks
from models.errors import MissingSource, Unreachable
from producer import readers
from producer.readers.column_mapping import ColumnMapping
from producer.readers.files import remote
from producer.readers.files.access import Access

SECONDS = 1.0  # for each call; those that answer must, on a busy machine
LINES = (b'"' + b"x" * 1_000 + b'"\n') * 3_000


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Set after the test, so that no abandoned thread waits any longer."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def file() -> None:
    fsspec.filesystem("memory").pipe_file("/silent/a.jsonl", LINES)


def count_rows(seconds: float = SECONDS) -> int:
    access_rules = Access(schemes=frozenset({"memory"}), timeout_seconds=seconds)
    with readers.open_source(
        "memory://silent/a.jsonl", ColumnMapping.for_task(tasks.find_spec("sentiment-analysis")), access=access_rules
    ) as source:
        return sum(1 for _ in source.rows)


def test_a_read_that_hangs_is_abandoned(monkeypatch: pytest.MonkeyPatch, release: threading.Event) -> None:
    class Silent(fsspec.implementations.memory.MemoryFile):  # type: ignore[misc]
        reads = 0

        def read(self, *size: int) -> Any:
            self.reads += 1
            if self.reads > 2:
                release.wait(600)
            return super().read(*size)

    monkeypatch.setattr(MemoryFileSystem, "open", lambda *_, **__: Silent(None, None, LINES))

    with pytest.raises(Unreachable, match=r"broke off while it was read: nothing came for 1 s"):
        count_rows()


@pytest.mark.parametrize("method", ["open", "glob"])
def test_a_call_that_hangs_is_abandoned(monkeypatch: pytest.MonkeyPatch, release: threading.Event, method: str) -> None:
    monkeypatch.setattr(MemoryFileSystem, method, lambda *_, **__: release.wait(600))

    with pytest.raises(MissingSource, match=r"can't be opened: nothing came for 1 s"):
        remote.find_urls("memory://silent/*", SECONDS) if method == "glob" else remote.open_url(
            "memory://silent/a", SECONDS
        )


def test_a_source_without_delays_is_read_to_its_end() -> None:
    assert count_rows(60.0) == 3_000
