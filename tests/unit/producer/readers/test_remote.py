"""Remote sources: one that falls silent is given up."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from models import tasks
from models.errors import MissingSource, Unreachable
from producer import readers
from producer.readers import remote
from producer.readers.access import Access
from producer.readers.rows import ColumnMapping

SECONDS = 0.2
LINES = b'"some text"\n' * 250_000


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test is over, so that nobody waits any longer."""
    over = threading.Event()
    yield over
    over.set()


@pytest.fixture(autouse=True)
def file() -> None:
    fsspec.filesystem("memory").pipe_file("/silent/a.jsonl", LINES)


def read() -> int:
    allowed = Access(schemes=frozenset({"memory"}), timeout_seconds=SECONDS)
    with readers.open_source(
        "memory://silent/a.jsonl", ColumnMapping.for_task(tasks.find_spec("sentiment-analysis")), access=allowed
    ) as source:
        return sum(1 for _ in source.rows)


def test_silence_between_pieces_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, over: threading.Event) -> None:
    class Silent(fsspec.implementations.memory.MemoryFile):  # type: ignore[misc]
        reads = 0

        def read(self, *size: int) -> Any:
            self.reads += 1
            if self.reads > 2:
                over.wait(60)
            return super().read(*size)

    monkeypatch.setattr(MemoryFileSystem, "open", lambda *_, **__: Silent(None, None, LINES))
    began = time.monotonic()

    with pytest.raises(Unreachable, match=r"broke off while it was read: nothing came for 0\.2 s"):
        read()

    assert time.monotonic() - began < 20


@pytest.mark.parametrize("what", ["open", "glob"])
def test_silence_at_the_beginning_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, over: threading.Event, what: str
) -> None:
    monkeypatch.setattr(MemoryFileSystem, what, lambda *_, **__: over.wait(60))

    with pytest.raises(MissingSource, match=r"can't be opened: nothing came for 0\.2 s"):
        remote.find_urls("memory://silent/*", SECONDS) if what == "glob" else remote.open_url(
            "memory://silent/a", SECONDS
        )


def test_one_that_goes_on_is_read_to_its_end() -> None:
    assert read() == 250_000
