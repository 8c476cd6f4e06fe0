"""A remote source that stops sending data is abandoned."""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from tests.servers import WAIT_TIMEOUT_SECONDS

SECONDS = 1.0  # for each call
LINES = (b'"' + b"x" * 1_000 + b'"\n') * 3_000


class Hang:
    """Calls that give no answer until the test is over, and whose time runs out at once; others have all theirs."""

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._hanging: set[threading.Thread] = set()

    def wait(self) -> None:
        self._hanging.add(threading.current_thread())
        self._is_over.wait(WAIT_TIMEOUT_SECONDS)

    def call_within(self, seconds: float, call: Callable[[], Any], thread_name: str) -> Any:
        values: list[Any] = []

        def work() -> None:
            with suppress(Exception):  # from calls that were abandoned
                values.append(call())

        thread = threading.Thread(target=work, name=thread_name)
        thread.start()
        while thread.is_alive():
            if thread in self._hanging:
                raise TimeoutError(errno.ETIMEDOUT, f"nothing came for {seconds:g} s")
            thread.join(0.01)
        return values[0]

    def end(self) -> None:
        self._is_over.set()
        for thread in self._hanging:
            thread.join(WAIT_TIMEOUT_SECONDS)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    hang = Hang()
    monkeypatch.setattr(remote, "call_within", hang.call_within)
    yield hang
    hang.end()


@pytest.fixture(autouse=True)
def file() -> None:
    fsspec.filesystem("memory").pipe_file("/silent/a.jsonl", LINES)


def count_rows(seconds: float = SECONDS) -> int:
    access_rules = Access(schemes=frozenset({"memory"}), timeout_seconds=seconds)
    with readers.open_source(
        "memory://silent/a.jsonl", ColumnMapping.for_task(tasks.find_spec("sentiment-analysis")), access=access_rules
    ) as source:
        return sum(1 for _ in source.rows)


def test_a_read_that_hangs_is_abandoned(monkeypatch: pytest.MonkeyPatch, hang: Hang) -> None:
    class Silent(fsspec.implementations.memory.MemoryFile):  # type: ignore[misc]
        reads = 0

        def read(self, *size: int) -> Any:
            self.reads += 1
            if self.reads > 2:
                hang.wait()
            return super().read(*size)

    monkeypatch.setattr(MemoryFileSystem, "open", lambda *_, **__: Silent(None, None, LINES))

    with pytest.raises(Unreachable, match=r"broke off while it was read: nothing came for 1 s"):
        count_rows()


@pytest.mark.parametrize("method", ["open", "glob"])
def test_a_call_that_hangs_is_abandoned(monkeypatch: pytest.MonkeyPatch, hang: Hang, method: str) -> None:
    monkeypatch.setattr(MemoryFileSystem, method, lambda *_, **__: hang.wait())

    with pytest.raises(MissingSource, match=r"can't be opened: nothing came for 1 s"):
        remote.find_urls("memory://silent/*", SECONDS) if method == "glob" else remote.open_url(
            "memory://silent/a", SECONDS
        )


def test_a_source_without_delays_is_read_to_its_end() -> None:
    assert count_rows(60.0) == 3_000
