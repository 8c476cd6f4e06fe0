"""Fakes for the engine: a word-counting model, a gate in its forward pass, an unreliable database."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from models.db import Database
from models.documents import to_json
from models.errors import JobError, Unreachable
from tests.servers import WAIT_TIMEOUT_SECONDS
from worker.adapters.interface import DecodableJob
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job

# Outputs that no database stores, and one that only looks like them.
UNUSUAL_OUTPUTS = {"infinite": float("inf"), "half a pair": "\ud800", "NUL": "a\0b", "spelled": "a\\u0000b"}


class FakeAdapter:
    """An adapter that counts words instead of running a model; `before_forward` is called before each pass."""

    def __init__(self, max_rows: int = 8) -> None:
        self.max_rows = max_rows
        self.before_forward: Callable[[MicroBatch], None] = lambda _batch: None
        self.passes: list[list[tuple[str, int]]] = []  # successful passes: batch and position of each row
        self.encoded: Counter[tuple[str, int]] = Counter()

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        texts = [job.input["text"] for job in jobs]
        if "untokenizable" in texts:
            raise ValueError("this text is a secret")
        self.encoded.update((job.lease.batch_id, job.position) for job in jobs)
        refusal = JobError("input_too_long", "longer than 3 tokens")
        return [
            refusal if job.input["text"] == "too long" else [Row(job, text, len(text.split()), truncated=False)]
            for job, text in zip(jobs, texts, strict=True)
        ]

    def forward(self, batch: MicroBatch) -> list[Any]:
        self.before_forward(batch)
        if any(row.features == "poison" for row in batch.rows):
            raise RuntimeError("this text is a secret")
        self.passes.append([(row.job.lease.batch_id, row.job.position) for row in batch.rows])
        return [row.length for row in batch.rows]

    def decode(self, rows: Sequence[Row], raw: Sequence[Any]) -> Any:
        [row], [raw] = rows, raw
        if row.features == "NaN":
            raise JobError("invalid_output", "not a number")
        return {"words": raw, "parameters": row.job.lease.parameters, "odd": UNUSUAL_OUTPUTS.get(row.features)}

    @property
    def computed(self) -> Counter[tuple[str, int]]:
        """Count how often each job passed through the model."""
        return Counter(job for jobs in self.passes for job in jobs)


class LaunchingFakeAdapter(FakeAdapter):
    """The same on a device that computes two passes ahead: outputs exist when they are read."""

    passes_in_flight = 2

    def launch(self, batch: MicroBatch) -> "FakePendingPass":
        """Fail as `forward` does, before any pass is read."""
        self.before_forward(batch)
        if any(row.features == "poison" for row in batch.rows):
            raise RuntimeError("this text is a secret")
        return FakePendingPass(self, batch)


class FakePendingPass:
    """A pass of the adapter above, which ends when it is read."""

    device_seconds = 0.001

    def __init__(self, adapter: FakeAdapter, batch: MicroBatch) -> None:
        self._adapter, self._batch = adapter, batch

    def result(self) -> list[Any]:
        rows = self._batch.rows
        self._adapter.passes.append([(row.job.lease.batch_id, row.job.position) for row in rows])
        return [row.length for row in rows]


class BulkFakeAdapter(FakeAdapter):
    """A fake adapter that decodes jobs together; `decode_jobs` turns the right outputs into those that it gives."""

    def __init__(self, decode_jobs: Callable[[list[str | Exception]], Iterable[str | Exception]] = list) -> None:
        super().__init__()
        self.decode_jobs = decode_jobs
        self.calls: list[int] = []

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterable[str | Exception]:
        self.calls.append(len(jobs))
        return self.decode_jobs([self._document(rows, raw) for rows, raw in jobs])

    def _document(self, rows: Sequence[Row], raw: Sequence[Any]) -> str | Exception:
        try:
            return to_json(self.decode(rows, raw))
        except JobError as error:
            return error
        except ValueError:
            return JobError("invalid_output", "the model gave an output that is not valid JSON text")


class UnreliableDatabase(Database):
    """A database that can be unreachable, before a transaction or just after its commit."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.failures: list[str] = []  # faults of the next writes: "before", "after" or "defect"
        self.reads_to_fail = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        fault = self.failures.pop(0) if self.failures else ""
        if fault == "before":
            raise Unreachable("the database is away")
        if fault == "defect":
            raise LookupError("nobody expects this")
        with super().write() as connection:
            yield connection
        if fault == "after":
            raise Unreachable("the connection broke before the answer came")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if self.reads_to_fail > 0:
            self.reads_to_fail -= 1
            raise Unreachable("the database is away")
        with super().read() as connection:
            yield connection

    @contextmanager
    def statement(self, *, read_only: bool = True) -> Iterator[Connection]:
        with self.read() if read_only else self.write() as connection:
            yield connection


class ForwardGate:
    """A gate that blocks the device thread at a forward pass until the test opens it."""

    def __init__(self, adapter: FakeAdapter, at_pass: int = 1) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        self._calls, self._at_pass = 0, at_pass
        adapter.before_forward = self.hold

    def hold(self, _batch: MicroBatch) -> None:
        self._calls += 1
        if self._calls == self._at_pass:
            self.reached.set()
            assert self._opened.wait(WAIT_TIMEOUT_SECONDS)

    def wait(self) -> None:
        assert self.reached.wait(WAIT_TIMEOUT_SECONDS)

    def open(self) -> None:
        self._opened.set()
