"""The engine on both databases, with a made-up model: every input ends as exactly one row, whatever goes wrong."""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from sqlalchemy import Connection, event, func, select, update

from models import vectors
from models.db import Database
from models.errors import Unreachable
from models.states import JobOutcome
from models.tables.batches import Slice
from models.tables.results import Attempt
from tests.factories.batch_rows import (
    MODEL_VERSION,
    assert_consistent,
    assert_usage_equals_counters,
    claimant_for,
    execute,
    expire_leases,
    get_batch,
    get_results,
    get_slices,
    insert_batch,
    update_batch,
)
from tests.factories.engines import make_context, make_loaded_pipeline
from tests.fakes import BulkFakeAdapter, FakeAdapter, ForwardGate, LaunchingFakeAdapter, UnreliableDatabase
from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from worker.adapters.interface import Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine import writer
from worker.engine.engine import Engine
from worker.engine.portions import PrefetchedRows
from worker.engine.wakeup import WakeupSignal
from worker.leasing import commit, reclaim, retry, usage
from worker.leasing.claiming import claims, quarantine_turns
from worker.leasing.job_results import BatchCommit, CommitResult, JobResult
from worker.leasing.leases import HeldLeases, Job, Lease
from worker.leasing.quarantine import QUARANTINE_AFTER_CRASHES
from worker.loading import versions
from worker.loading.runtime import Runtime
from worker.passes.planning import MicroBatchPlanner

SLICE = 4  # jobs in a slice, as insert_batch cuts them
FOREVER = 1000.0  # seconds; only a wakeup ends such a sleep


LONG_VECTOR_BYTES = 4 * vectors.MAX_DIMENSIONS


def long_vector(text: str) -> bytes:
    """A vector of the greatest length, which begins with the text's characters."""
    return vectors.from_numbers(list(text.encode())).ljust(LONG_VECTOR_BYTES, b"\0")


class VectorFakeAdapter(FakeAdapter):
    """An adapter whose outputs are vectors."""

    def decode(self, rows: Sequence[Row], raw: Sequence[Any]) -> Any:
        return long_vector(rows[0].features)


@dataclass
class RunningEngine:
    """A running engine and everything around it."""

    engine: Engine
    wakeup_signal: WakeupSignal
    held_leases: HeldLeases
    crashes: list[BaseException | str]
    ended: bool = field(default=False)

    def notify(self) -> None:
        caller = threading.Thread(target=self.wakeup_signal.notify_and_wait)
        caller.start()
        caller.join(WAIT_TIMEOUT_SECONDS)
        assert not caller.is_alive(), "the wakeup was not acknowledged"

    def until_idle(self) -> None:
        wait_until(lambda: len(self.wakeup_signal._condition._waiters) == 1, "the engine to sleep")

    def stop(self) -> list[Lease]:
        self.engine.stop()
        return self.join()

    def join(self) -> list[Lease]:
        self.ended = True
        return self.engine.join()


@pytest.fixture
def database(database_url: str) -> Iterator[UnreliableDatabase]:
    database = UnreliableDatabase(database_url)
    yield database
    database.close()


@pytest.fixture
def other(database_url: str) -> Iterator[Database]:
    """The same database as somebody else sees it: it is never away."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def adapter(database_url: str) -> FakeAdapter:
    """On SQLite one pass follows the other, as on a CPU; on PostgreSQL two are in flight, as on CUDA."""
    return FakeAdapter() if database_url.startswith("sqlite") else LaunchingFakeAdapter()


@pytest.fixture
def start(
    database: UnreliableDatabase, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., RunningEngine]]:
    """Starts engines; ends the ones that the test left running, and finds crashes."""
    monkeypatch.setattr(retry, "RETRY_DELAYS_SECONDS", (0.001,))
    started: list[RunningEngine] = []

    def start(
        *,
        worker_id: str = "worker-1",
        tokens: int = 1000,
        max_claim_jobs: int = 1000,
        idle_seconds: float = 0.01,
        linger_seconds: float = 0.0,
        retry_seconds: float = 1e-9,
        prefetch_bytes: int = 8 * 2**20,
        **claiming: str,
    ) -> RunningEngine:
        crashes: list[BaseException | str] = []
        context = make_context(
            database,
            worker_id=worker_id,
            on_fatal_error=lambda: crashes.append("crash"),
            slice_size=SLICE,
            poll_interval_seconds=idle_seconds,
            retry_base_seconds=retry_seconds,
            max_retry_seconds=max(300.0, retry_seconds),
            max_prepared_mb=prefetch_bytes / 2**20,
        )
        settings = context.settings.model_copy(update={"linger_ms": linger_seconds * 1000})  # longer than users may set
        context = replace(context, settings=settings)
        runtime = Runtime(adapter, MODEL_VERSION, tokens, None, None, 1, 0)
        claimant = claimant_for(worker_id, **claiming)
        engine = Engine(context, make_loaded_pipeline(database, runtime, claimant, max_claim_jobs=max_claim_jobs))
        engine.start()
        started.append(RunningEngine(engine, context.wakeup_signal, context.held_leases, crashes))
        return started[-1]

    yield start
    for running in started:
        if not running.ended:
            running.stop()
        assert running.crashes == []


def texts(*texts: str) -> list[Mapping[str, str]]:
    return [{"text": text} for text in texts]


def until_completed(database: Database, *batch_ids: str) -> None:
    wait_until(
        lambda: all(get_batch(database, batch_id).status == "completed" for batch_id in batch_ids), "the batches to end"
    )
    for batch_id in batch_ids:
        assert_consistent(database, batch_id)
    assert_usage_equals_counters(database)


def leased(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).where(Slice.state == "leased")) or 0


class ContinuousFakeAdapter(FakeAdapter):
    """A fake that generates: a row ends after as many steps as it has words, and others enter in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.should_interrupt: Callable[[], bool] = lambda: False
        self.before_step: Callable[[list[tuple[str, int]]], None] = lambda _jobs: None
        self.steps: list[list[tuple[str, int]]] = []  # the jobs in each step

    def generate(
        self, rows: Sequence[Row], fetch_more: Callable[[int], Sequence[Row]], max_rows: int
    ) -> Iterator[list[tuple[Row, Any]]]:
        running = [[row, row.length] for row in rows]
        while running:
            if self.should_interrupt():
                raise Interrupted
            jobs = [(row.job.lease.batch_id, row.job.position) for row, _ in running]
            self.before_step(jobs)
            if any(row.features == "poison" for row, _ in running):
                raise RuntimeError("this text is a secret")
            self.steps.append(jobs)
            running = [[row, remaining - 1] for row, remaining in running]
            ended = [row for row, remaining in running if remaining <= 0]
            running = [entry for entry in running if entry[1] > 0]
            if ended:
                self.passes.append([(row.job.lease.batch_id, row.job.position) for row in ended])
                yield [(row, row.length) for row in ended]
            if running and len(running) < max_rows:
                running += [[row, row.length] for row in fetch_more(max_rows - len(running))]


class TestGeneration:
    @pytest.fixture
    def adapter(self) -> ContinuousFakeAdapter:
        return ContinuousFakeAdapter()

    def test_lets_rows_of_the_next_claims_enter_beside_a_long_text(
        self, other: Database, adapter: ContinuousFakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        started: list[RunningEngine] = []
        seen: set[int] = set()

        def wait_for_a_portion(jobs: list[tuple[str, int]]) -> None:
            """A real step takes longer than a claim."""
            seen.update(position for _, position in jobs)
            if max(seen) < 2 * SLICE:
                wait_until(lambda: started and not started[0].engine._prefetch_queue.empty(), "the next portion")

        adapter.before_step = wait_for_a_portion
        inputs = ["word " * 60, *("one", "two words") * 30]
        batch_id = insert_batch(other, texts(*inputs))

        started.append(start(max_claim_jobs=SLICE))
        until_completed(other, batch_id)

        beside_the_long_one = {job for step in adapter.steps if (batch_id, 0) in step for job in step}
        assert max(position for _, position in beside_the_long_one) >= 2 * SLICE, "of other claims than the first"
        assert set(adapter.computed.values()) == {1}
        assert [row.output["words"] for row in get_results(other, batch_id)] == [len(text.split()) for text in inputs]
        assert {(row.status, row.attempts) for row in get_results(other, batch_id)} == {("succeeded", 1)}

    def test_fails_only_a_culprit_that_entered_from_a_later_claim(
        self, other: Database, adapter: ContinuousFakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        adapter.before_step = lambda _jobs: time.sleep(0.005)
        batch_id = insert_batch(other, texts("word " * 40, *["one"] * 9, "poison", *["one"] * 9))

        start(max_claim_jobs=SLICE)
        until_completed(other, batch_id)

        statuses = [row.status for row in get_results(other, batch_id)]
        assert statuses == ["succeeded"] * 10 + ["failed"] + ["succeeded"] * 9

    def test_takes_no_portion_that_is_quarantined_or_beside_too_many_bytes(
        self, other: Database, adapter: ContinuousFakeAdapter
    ) -> None:
        runtime = Runtime(adapter, MODEL_VERSION, 1000, None, None, 1, 0)
        engine = Engine(make_context(other), make_loaded_pipeline(other, runtime, claimant_for("worker-1")))
        ordinary = Lease(1, "batch", 0, 4, 1, 1)
        quarantined = Lease(2, "batch", 4, 4, 1, 1, crashes=QUARANTINE_AFTER_CRASHES)
        portions = [PrefetchedRows([lease], MicroBatchPlanner([], 8), 0.0) for lease in (ordinary, quarantined)]
        for portion in (*portions, None):
            engine._prefetch_queue.put(portion)
        huge = Row(Job(ordinary, 0, {}, size_bytes=2**30), None, 1, truncated=False)

        assert engine._take_next_prefetched([huge]) is None
        assert engine._take_next_prefetched([]) is portions[0]
        assert engine._take_next_prefetched([]) is None, "a quarantined one"
        assert engine._next_prefetched() is portions[1], "which is the next all the same"
        assert engine._take_next_prefetched([]) is None, "the end"
        assert engine._next_prefetched() is None

    def test_gives_back_what_it_has_not_answered_when_it_is_aborted(
        self, other: Database, adapter: ContinuousFakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        adapter.before_step = lambda _jobs: time.sleep(0.005)
        batch_id = insert_batch(other, texts("word " * 100_000, *["one"] * 30))
        running = start(max_claim_jobs=SLICE)
        wait_until(lambda: len(get_results(other, batch_id)) > SLICE, "rows of other claims to be answered")

        running.engine.stop(0.0)
        running.join()

        assert leased(other) == 0
        assert running.held_leases.leases() == []
        assert_consistent(other, batch_id)
        adapter.before_step = lambda _jobs: None
        execute(other, 'UPDATE jobs SET input = \'{"text": "short"}\' WHERE position = 0')
        start(worker_id="worker-2")
        until_completed(other, batch_id)
        assert {row.status for row in get_results(other, batch_id)} == {"succeeded"}


DEEP_OUTPUT = "[" * 100_000 + "]" * 100_000  # deeper than jsonb takes; SQLite's limit is lowered to it


class TestAnOutputThatTheDatabaseRefuses:
    @pytest.fixture
    def adapter(self) -> FakeAdapter:
        return BulkFakeAdapter(lambda outputs: [DEEP_OUTPUT if '"words":3' in str(item) else item for item in outputs])

    def test_fails_its_own_job_only(
        self, database: UnreliableDatabase, other: Database, start: Callable[..., RunningEngine]
    ) -> None:
        if database.engine.dialect.name == "sqlite":
            limit = (sqlite3.SQLITE_LIMIT_LENGTH, len(DEEP_OUTPUT) - 1)
            event.listen(database.engine, "connect", lambda connection, _record: connection.setlimit(*limit))
        words = [("one " * (1 + index % 2)) for index in range(9)]
        words[2] = words[7] = "one two three"
        ids = [insert_batch(other, texts(*words)), insert_batch(other, texts("one two three")), insert_batch(other, 5)]

        start()
        until_completed(other, *ids)

        rows = get_results(other, ids[0])
        assert [row.position for row in rows if row.status == "failed"] == [2, 7]
        assert {row.error_code for row in rows} == {None, "output_too_large"}
        assert [row.error_code for row in get_results(other, ids[1])] == ["output_too_large"]
        assert {row.status for row in get_results(other, ids[2])} == {"succeeded"}


class TestBacklog:
    def test_is_worked_through_with_every_input_answered_once(
        self, database: UnreliableDatabase, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        inputs = [texts(*(f"{index} " * (1 + index % 7) for index in range(size))) for size in (1, 10, 53)]
        ids = [insert_batch(other, item, parameters={"top_k": size}) for size, item in enumerate(inputs)]

        start(max_claim_jobs=12, tokens=20)
        until_completed(other, *ids)

        for size, batch_id in enumerate(ids):
            rows = get_results(other, batch_id)
            assert [row.output["words"] for row in rows] == [1 + index % 7 for index in range(len(inputs[size]))]
            assert all(row.output["parameters"] == {"top_k": size} for row in rows)
            assert {(row.status, row.attempts) for row in rows} == {("succeeded", 1)}
        assert set(adapter.computed.values()) == {1}
        assert adapter.computed.total() == 64

    def test_counts_tokens_with_and_without_padding(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, texts("one two three four", "one", "one two", "two"))

        start(tokens=8)
        until_completed(other, batch_id)

        assert [len(jobs) for jobs in adapter.passes] == [2, 2]
        assert get_batch(other, batch_id).tokens == 8
        assert get_batch(other, batch_id).padded_tokens == 4 * 2 + 1 * 2
        assert 0 < get_batch(other, batch_id).device_seconds < 600

    def test_comes_to_the_engine_by_wakeup(self, other: Database, start: Callable[..., RunningEngine]) -> None:
        running = start(idle_seconds=FOREVER)
        running.until_idle()

        batch_id = insert_batch(other, 4)
        running.notify()

        until_completed(other, batch_id)

    def test_is_found_without_a_wakeup(self, other: Database, start: Callable[..., RunningEngine]) -> None:
        start(idle_seconds=0.01)

        batch_id = insert_batch(other, 4)

        until_completed(other, batch_id)

    def test_of_another_revision_is_left_alone(self, other: Database, start: Callable[..., RunningEngine]) -> None:
        strange = insert_batch(other, 4, revision="b" * 40, priority=9)
        own_id = insert_batch(other, 4)

        start()
        until_completed(other, own_id)

        assert [row.state for row in get_slices(other, strange)] == ["queued"]

    def test_answered_already_is_only_closed(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 8)
        [lease, untouched] = claims.claim(other, claimant_for("stopped"), 1000, SLICE)
        results = [JobResult(lease, index, JobOutcome.SUCCEEDED, "1") for index in range(4)]
        version_id = versions.register_version(other, MODEL_VERSION)
        with other.write() as connection:
            work = commit.commit_results(connection, BatchCommit([lease], results, [], version_id)).work
            claims.release(connection, [lease, untouched])
            usage.add_usage(connection, filter(None, [work]), "stopped")

        start()
        until_completed(other, batch_id)

        assert sorted(adapter.computed) == [(batch_id, index) for index in range(4, 8)]


class TestLargeInputs:
    def test_are_read_and_computed_a_few_at_a_time(
        self,
        other: Database,
        adapter: FakeAdapter,
        start: Callable[..., RunningEngine],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        read: list[list[int]] = []
        inputs = claims.read_inputs

        def read_and_count(*arguments: Any) -> list[Job]:
            jobs = inputs(*arguments)
            read.append([job.size_bytes for job in jobs])
            return jobs

        monkeypatch.setattr(claims, "read_inputs", read_and_count)
        words = [f"{index} " * (900 if index % 7 else 9_000) for index in range(40)]
        batch_id = insert_batch(other, texts(*words), slice_size=40)

        start(prefetch_bytes=10_000)
        until_completed(other, batch_id)

        assert [row.output["words"] for row in get_results(other, batch_id)] == [len(word.split()) for word in words]
        assert adapter.computed.total() == 40
        assert all(len(sizes) == 1 or sum(sizes) <= 10_000 for sizes in read)
        assert {row.attempts for row in get_results(other, batch_id)} == {1}

    def test_are_given_back_where_the_engine_stops_among_them(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        gate = ForwardGate(adapter, at_pass=3)
        batch_id = insert_batch(other, texts(*(f"{index} " * 900 for index in range(40))), slice_size=40)
        running = start(prefetch_bytes=10_000)
        gate.wait()

        running.engine.stop()
        gate.open()
        given_back = running.join()

        assert [lease.batch_id for lease in given_back] == [batch_id]
        assert 0 < len(get_results(other, batch_id)) < 40
        start(prefetch_bytes=10_000)
        until_completed(other, batch_id)
        assert set(adapter.computed.values()) == {1}

    def test_of_slices_that_were_lost_meanwhile_are_not_read(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        gate = ForwardGate(adapter)
        insert_batch(other, texts(*(f"{index} " * 900 for index in range(40))), slice_size=40)
        running = start(prefetch_bytes=10_000)
        gate.wait()

        running.held_leases.discard(running.held_leases.leases())
        gate.open()
        running.until_idle()

        assert len(adapter.encoded) < 20


class TestBulkDecoding:
    @pytest.fixture
    def adapter(self) -> FakeAdapter:
        return BulkFakeAdapter()

    def test_outputs_and_errors_reach_their_own_jobs(
        self, other: Database, start: Callable[..., RunningEngine]
    ) -> None:
        words = ["one", "NaN", "two words", "NUL", "half a pair", "spelled", "poison", "two words"]
        batch_id = insert_batch(other, texts(*words))

        start()
        until_completed(other, batch_id)

        results = get_results(other, batch_id)
        codes = [None, "invalid_output", None, "invalid_output", "invalid_output", None, "model_error", None]
        assert [row.error_code for row in results] == codes
        assert [row.output["words"] for row in results if row.output] == [1, 2, 1, 2]

    def test_a_defect_in_decoding_together_costs_no_output(
        self, other: Database, adapter: BulkFakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        adapter.decode_jobs = lambda documents: documents[1:]
        batch_id = insert_batch(other, texts("one", "NaN", "three words more"))

        start()
        until_completed(other, batch_id)

        results = get_results(other, batch_id)
        assert [row.error_code for row in results] == [None, "invalid_output", None]
        assert [row.output["words"] for row in results if row.output] == [1, 3]


class TestVectors:
    @pytest.fixture
    def adapter(self) -> FakeAdapter:
        return VectorFakeAdapter()

    def test_are_stored_in_commits_of_bounded_bytes(
        self, other: Database, start: Callable[..., RunningEngine], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit_results, sizes = commit.commit_results, []

        def record(connection: Connection, planned: BatchCommit, **options: Any) -> CommitResult:
            sizes.append(len(planned.results))
            return commit_results(connection, planned, **options)

        monkeypatch.setattr(commit, "commit_results", record)
        monkeypatch.setattr(writer, "MAX_CHARACTERS_PER_COMMIT", 2 * LONG_VECTOR_BYTES)
        batch_id = insert_batch(other, texts(*(f"text {number}" for number in range(8))), slice_size=8)

        start()
        until_completed(other, batch_id)

        assert max(sizes) == 3, "the one that exceeds the limit is the last"
        assert sum(sizes) == 8
        assert [row.vector for row in get_results(other, batch_id)] == [
            long_vector(f"text {number}") for number in range(8)
        ]
        assert_consistent(other, batch_id)


class TestTwins:
    def test_equal_inputs_are_computed_once_and_each_is_answered(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        words = ["one two", "three", "one two", "one two", "three", "four five six"] * 5
        batch_id = insert_batch(other, texts(*words))

        start()
        until_completed(other, batch_id)

        assert [row.output["words"] for row in get_results(other, batch_id)] == [len(word.split()) for word in words]
        assert adapter.computed.total() == 3
        assert get_batch(other, batch_id).tokens == 2 + 1 + 3

    def test_other_parameters_make_other_jobs(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        ids = [insert_batch(other, texts("one", "one"), parameters={"top_k": k}) for k in (1, 2)]

        start()
        until_completed(other, *ids)

        assert adapter.computed.total() == 2

    def test_what_is_drawn_by_chance_is_drawn_for_each(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        fields = {"task": "text-generation"}
        random_id = insert_batch(other, texts("one", "one"), **fields)
        seeded = insert_batch(other, texts("one", "one"), parameters={"seed": 1}, **fields)

        start(task="text-generation")
        until_completed(other, random_id, seeded)

        assert Counter(batch_id for batch_id, _ in adapter.computed) == {random_id: 2, seeded: 1}

    def test_a_failure_is_told_to_each(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, texts("poison", "fine", "poison", "too long", "too long"))

        start()
        until_completed(other, batch_id)

        codes = [row.error_code for row in get_results(other, batch_id)]
        assert codes == ["model_error", None, "model_error", "input_too_long", "input_too_long"]

    def test_one_whose_lease_was_lost_does_not_take_the_others_along(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        lost_id = insert_batch(other, texts(*["one"] * SLICE), priority=1)
        kept_id = insert_batch(other, texts(*["one"] * SLICE))
        gate = ForwardGate(adapter)
        running = start()
        gate.wait()
        update_batch(other, lost_id, status="failed")

        running.held_leases.discard([lease for lease in running.held_leases.leases() if lease.batch_id == lost_id])
        gate.open()

        until_completed(other, kept_id)
        assert get_results(other, lost_id) == []
        assert [row.output["words"] for row in get_results(other, kept_id)] == [1] * SLICE


class TestMemory:
    def test_want_of_it_halves_the_budget_and_costs_no_attempt(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        adapter.before_forward = refuse_above(8)
        batch_id = insert_batch(other, texts(*(f"{index} two" for index in range(64))), slice_size=64)

        running = start(tokens=64)
        until_completed(other, batch_id)

        rows = get_results(other, batch_id)
        assert {(row.status, row.attempts) for row in rows} == {("succeeded", 1)}
        assert max(len(jobs) for jobs in adapter.passes) == 4
        assert running.engine._device_loop._token_budget.tokens == 8

    def test_a_job_that_does_not_fit_alone_fails_and_its_neighbours_succeed(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        adapter.before_forward = refuse_above(8)
        batch_id = insert_batch(other, texts("one", "two two", "a b c d e f g h i", "three"))

        start(tokens=64)
        until_completed(other, batch_id)

        assert [row.error_code for row in get_results(other, batch_id)] == [None, None, "out_of_memory", None]


def refuse_above(tokens: int) -> Callable[[MicroBatch], None]:
    """A device whose memory holds so many padded tokens."""

    def check(batch: MicroBatch) -> None:
        if batch.padded_tokens > tokens:
            raise torch.OutOfMemoryError(f"tried to allocate {batch.padded_tokens}")

    return check


class TestFailures:
    def outcomes(self, database: Database, batch_id: str) -> list[tuple[str, str | None]]:
        return [(row.status, row.error_code) for row in get_results(database, batch_id)]

    def test_one_poison_input_among_64_fails_alone(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        adapter.max_rows = 64
        inputs = texts(*["fine"] * 37, "poison", *["fine"] * 26)
        batch_id = insert_batch(other, inputs)

        start()
        until_completed(other, batch_id)

        assert get_batch(other, batch_id).succeeded == 63
        [failed] = [row for row in get_results(other, batch_id) if row.status == "failed"]
        assert (failed.position, failed.error_code, failed.attempts) == (37, "model_error", 1)
        assert "RuntimeError" in failed.error_message
        assert "secret" not in failed.error_message, "an exception's text may quote the input"
        assert {row.attempts for row in get_results(other, batch_id)} == {1}
        assert set(adapter.computed.values()) == {1}, "neighbours are not computed twice"

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("poison", "model_error"),
            ("untokenizable", "model_error"),
            ("too long", "input_too_long"),
            ("NaN", "invalid_output"),
            ("infinite", "invalid_output"),
            ("half a pair", "invalid_output"),
            ("NUL", "invalid_output"),
        ],
    )
    def test_one_input_s_failure_is_its_own(
        self, other: Database, start: Callable[..., RunningEngine], text: str, code: str
    ) -> None:
        batch_id = insert_batch(other, texts("fine", "fine", text, "fine", "fine"))

        start()
        until_completed(other, batch_id)

        fine = ("succeeded", None)
        assert self.outcomes(other, batch_id) == [fine, fine, ("failed", code), fine, fine]

    def test_all_of_them_at_once(self, other: Database, start: Callable[..., RunningEngine]) -> None:
        fates = ["poison", "untokenizable", "too long", "NaN", "infinite", "half a pair", "NUL"]
        batch_id = insert_batch(other, texts(*(text for fate in fates for text in ("fine", fate))))

        start()
        until_completed(other, batch_id)

        assert [status for status, _ in self.outcomes(other, batch_id)] == ["succeeded", "failed"] * len(fates)

    def test_of_a_whole_slice_still_close_it(self, other: Database, start: Callable[..., RunningEngine]) -> None:
        batch_id = insert_batch(other, texts(*["too long"] * 4, "fine", *["poison"] * 4))

        start()
        until_completed(other, batch_id)

        assert get_batch(other, batch_id).failed == 8

    def test_never_take_spelled_out_escapes_for_what_they_name(
        self, other: Database, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, texts("spelled"))

        start()
        until_completed(other, batch_id)

        assert get_results(other, batch_id)[0].output["odd"] == "a\\u0000b"


class TestWindows:
    def test_at_most_two_wait_for_the_device_beside_what_it_still_computes(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 10 * SLICE)
        waiting: list[int] = []
        gate = ForwardGate(adapter)

        def look(batch: MicroBatch) -> None:
            gate.hold(batch)
            waiting.append(adapter.encoded.total() - adapter.computed.total())

        adapter.before_forward = look
        start(max_claim_jobs=SLICE)
        gate.wait()
        wait_until(lambda: adapter.encoded.total() == 2 * SLICE, "a window to be ready behind the one on the device")
        gate.open()
        until_completed(other, batch_id)

        computing = getattr(adapter, "passes_in_flight", 1) - 1
        assert 2 * SLICE <= max(waiting) <= (2 + computing) * SLICE

    def test_keep_a_wakeup_waiting_while_there_is_no_room(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 10 * SLICE)
        gate = ForwardGate(adapter)
        running = start(max_claim_jobs=SLICE)
        gate.wait()
        wait_until(lambda: leased(other) == 2, "both windows to be held")

        caller = threading.Thread(target=running.wakeup_signal.notify_and_wait)
        caller.start()
        wait_until(lambda: running.wakeup_signal._is_notified, "the wakeup to be noticed")
        assert caller.is_alive()

        gate.open()
        caller.join(WAIT_TIMEOUT_SECONDS)
        assert not caller.is_alive()
        until_completed(other, batch_id)


class TestStop:
    def test_in_the_middle_writes_what_was_computed_and_gives_the_rest_back(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 3 * SLICE)
        adapter.max_rows = 3
        gate = ForwardGate(adapter, at_pass=2)
        running = start()
        gate.wait()

        running.engine.stop()
        gate.open()
        released = running.join()

        assert [len(jobs) for jobs in adapter.passes] == [3, 3], "the pass under way was finished, no other begun"
        assert sorted((batch_id, row.position) for row in get_results(other, batch_id)) == sorted(adapter.computed)
        assert [lease.start_position for lease in released] == [4, 8]
        assert [(row.state, row.attempts) for row in get_slices(other, batch_id)] == [
            ("done", 1),
            ("queued", 0),
            ("queued", 0),
        ]
        assert running.held_leases.leases() == []
        assert_consistent(other, batch_id)

        start(worker_id="worker-2")
        until_completed(other, batch_id)

        assert set(adapter.computed.values()) == {1}, "what was written is not computed again"
        assert {row.attempts for row in get_results(other, batch_id)} == {1}

    def test_gives_back_a_window_that_was_only_ready(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 2 * SLICE)
        gate = ForwardGate(adapter)
        running = start(max_claim_jobs=SLICE)
        gate.wait()
        wait_until(lambda: leased(other) == 2, "the second window to be ready")

        running.engine.stop()
        gate.open()
        released = running.join()

        assert [lease.start_position for lease in released] == [4]
        assert [row.attempts for row in get_slices(other, batch_id)] == [1, 0]
        assert_consistent(other, batch_id)

    def test_without_work_ends_at_once_and_gives_nothing_back(self, start: Callable[..., RunningEngine]) -> None:
        running = start(idle_seconds=FOREVER)
        running.until_idle()

        assert running.stop() == []

    def test_lets_go_whoever_rings(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        insert_batch(other, 2 * SLICE)
        gate = ForwardGate(adapter)
        running = start(max_claim_jobs=SLICE)
        gate.wait()
        wait_until(lambda: leased(other) == 2, "both windows to be held")
        caller = threading.Thread(target=running.wakeup_signal.notify_and_wait)
        caller.start()

        running.engine.stop()
        running.wakeup_signal.close()

        caller.join(WAIT_TIMEOUT_SECONDS)
        assert not caller.is_alive()
        gate.open()

    def test_gives_back_only_what_is_still_held(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 2 * SLICE)
        gate = ForwardGate(adapter)
        running = start(max_claim_jobs=SLICE)
        gate.wait()
        wait_until(lambda: len(running.held_leases.leases()) == 2, "the second window to be ready")
        second = running.held_leases.leases()[1]
        expire_leases(other, second)
        reclaim.reclaim_expired(other, 3)
        [stolen_lease] = claims.claim(other, claimant_for("thief"), 1, SLICE)

        running.engine.stop()
        gate.open()

        assert running.join() == []
        row = get_slices(other, batch_id)[1]
        assert (row.state, row.worker_id, row.fencing_token, row.attempts) == (
            "leased",
            "thief",
            stolen_lease.fencing_token,
            2,
        )


class TestInterruption:
    def test_a_long_pass_is_given_up_and_its_jobs_are_given_back(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, SLICE)
        begun = threading.Event()

        def write_until_stopped(_batch: MicroBatch) -> None:
            begun.set()
            while not adapter.should_interrupt():
                time.sleep(0.001)
            raise Interrupted

        adapter.before_forward = write_until_stopped
        running = start()
        assert begun.wait(WAIT_TIMEOUT_SECONDS)

        running.engine.stop(max_forward_seconds=0.05)
        running.stop()

        assert get_results(other, batch_id) == []
        assert [(row.state, row.attempts) for row in get_slices(other, batch_id)] == [("queued", 0)]


class TestLostLease:
    def test_is_dropped_and_the_engine_goes_on(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        stolen_id = insert_batch(other, SLICE, priority=1)
        gate = ForwardGate(adapter)
        start(max_claim_jobs=SLICE)
        gate.wait()
        [slice_row] = get_slices(other, stolen_id)
        lease = Lease(slice_row.id, stolen_id, 0, SLICE, slice_row.fencing_token, slice_row.attempts)
        update_batch(other, stolen_id, pipeline="elsewhere")  # so that this engine does not take it again
        expire_leases(other, lease)
        reclaim.reclaim_expired(other, 3)
        [newer] = claims.claim(other, claimant_for("thief", pipeline="elsewhere"), 1, SLICE)
        kept_id = insert_batch(other, SLICE)

        gate.open()
        until_completed(other, kept_id)
        assert get_results(other, stolen_id) == [], "a write under a stale fence is refused"

        version_id = versions.register_version(other, MODEL_VERSION)
        with other.write() as connection:
            results = [JobResult(newer, index, JobOutcome.SUCCEEDED, '"thief"') for index in range(SLICE)]
            commit.commit_results(connection, BatchCommit([newer], results, {newer.slice_id}, version_id))
        assert {row.output for row in get_results(other, stolen_id)} == {"thief"}
        assert_consistent(other, stolen_id)

    def test_spares_the_device_the_rest(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        lost_id = insert_batch(other, SLICE)
        adapter.max_rows = 1
        gate = ForwardGate(adapter, at_pass=2)
        running = start()
        gate.wait()
        update_batch(other, lost_id, status="failed")
        kept_id = insert_batch(other, 1)

        running.held_leases.discard(
            [lease for lease in running.held_leases.leases() if lease.batch_id == lost_id]
        )  # the heartbeat
        gate.open()
        until_completed(other, kept_id)

        assert adapter.computed == {(lost_id, 0): 1, (lost_id, 1): 1, (kept_id, 0): 1}, (
            "the pass under way was the last"
        )

    def test_claimed_again_by_the_same_process_is_worked_through(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, SLICE)
        adapter.max_rows = 2
        gate = ForwardGate(adapter)
        running = start()
        gate.wait()
        [old] = running.held_leases.leases()
        expire_leases(other, old)
        reclaim.reclaim_expired(other, 3)
        wait_until(lambda: running.held_leases.leases() not in ([], [old]), "the slice to be claimed again")

        gate.open()
        until_completed(other, batch_id)

        assert {(row.fencing_token, row.attempts) for row in get_results(other, batch_id)} == {(2, 2)}


class TestSuspects:
    def test_are_held_alone(self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]) -> None:
        running = start(idle_seconds=FOREVER, max_claim_jobs=SLICE)
        running.until_idle()  # from now on it works only when told
        suspect_id = insert_batch(other, 3, slice_size=1)
        with other.write() as connection:
            connection.execute(update(Slice).values(crashes=QUARANTINE_AFTER_CRASHES))
        normal_id = insert_batch(other, 5 * SLICE)
        together: list[set[str]] = []
        adapter.before_forward = lambda batch: together.append(
            {lease.batch_id for lease in running.held_leases.leases()} | {str(len(batch.rows))}
        )

        running.notify()
        until_completed(other, suspect_id, normal_id)

        assert [item for item in together if suspect_id in item] == [{suspect_id, "1"}] * 3
        assert {row.attempts for row in get_results(other, suspect_id)} == {1}

    def test_have_nothing_claimed_beside_them(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        suspect_id = insert_batch(other, 1)
        with other.write() as connection:
            connection.execute(update(Slice).values(crashes=QUARANTINE_AFTER_CRASHES))
        gate = ForwardGate(adapter)
        running = start(idle_seconds=FOREVER)
        gate.wait()
        normal_id = insert_batch(other, SLICE)

        for _ in range(2):  # the second wakeup is acknowledged after the look that the first one caused
            running.notify()

        assert [row.state for row in get_slices(other, normal_id)] == ["queued"]
        gate.open()
        until_completed(other, suspect_id, normal_id)

    @pytest.mark.parametrize("priority", [1, -1])
    def test_get_their_turn_however_much_ordinary_work_comes_in(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine], priority: int
    ) -> None:
        """By priority, or since they have waited for long: nobody knows when they were run last."""
        suspect_id = insert_batch(other, 1, priority=priority)
        with other.write() as connection:
            connection.execute(update(Slice).values(crashes=QUARANTINE_AFTER_CRASHES))
        more, observed = iter(range(60)), []

        def keep_inserting(batch: MicroBatch) -> None:
            observed.append({row.job.lease.batch_id for row in batch.rows})
            if suspect_id not in set().union(*observed) and next(more, None) is not None:
                insert_batch(other, 2 * SLICE)  # there is always more than a window

        insert_batch(other, 4 * SLICE)
        adapter.before_forward = keep_inserting
        start(max_claim_jobs=SLICE)
        until_completed(other, suspect_id)

        assert {suspect_id} in observed
        assert next(more, None) is not None, "ordinary work came in all the time"

    def test_leave_ordinary_work_its_share(
        self,
        other: Database,
        adapter: FakeAdapter,
        start: Callable[..., RunningEngine],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(quarantine_turns, "TURN_SECONDS", 0.0)  # one at a time
        monkeypatch.setattr(quarantine_turns, "COOLDOWN_SECONDS", FOREVER)
        suspect_id = insert_batch(other, 3, slice_size=1, priority=-1)
        with other.write() as connection:
            connection.execute(update(Slice).values(crashes=QUARANTINE_AFTER_CRASHES))
        normal_id = insert_batch(other, 5 * SLICE)

        start(max_claim_jobs=SLICE)
        until_completed(other, suspect_id, normal_id)

        order = [batch_id for jobs in adapter.passes for batch_id, _ in jobs]
        assert order == [suspect_id, *[normal_id] * (5 * SLICE), suspect_id, suspect_id]


class TestDoubt:
    def test_over_a_second_claim_leaves_the_first_as_it_is(
        self, database: UnreliableDatabase, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        first_id = insert_batch(other, SLICE)
        gate = ForwardGate(adapter)
        running = start(linger_seconds=FOREVER, idle_seconds=FOREVER)  # until a wakeup
        gate.wait()
        running.until_idle()
        second_id = insert_batch(other, SLICE)
        database.failures = ["", "after"]  # the claim while the device is busy, and what it lingers for

        running.notify()
        wait_until(lambda: [row.state for row in get_slices(other, second_id)] == ["leased"], "the second batch")
        third_id = insert_batch(other, SLICE)
        running.notify()
        wait_until(lambda: not database.failures, "the claim to break off")
        gate.open()
        until_completed(other, first_id, second_id)
        running.notify()
        until_completed(other, third_id)

        assert {(row.fencing_token, row.attempts) for row in get_results(other, second_id)} == {(1, 1)}
        assert {(row.fencing_token, row.attempts) for row in get_results(other, third_id)} == {(2, 1)}, (
            "given back at once"
        )


class TestOutages:
    def begin(self, database: UnreliableDatabase, adapter: FakeAdapter, failures: list[str]) -> None:
        """Let the database fail from the first forward pass on."""

        def fail(_batch: MicroBatch) -> None:
            database.failures = failures
            adapter.before_forward = lambda _batch: None

        adapter.before_forward = fail

    @pytest.mark.parametrize(
        "failures",
        [
            ["before"],
            ["after"],
            ["before", "before", "after", "before"],
            ["after", "after", "before", "after", "", "after"],
        ],
    )
    @pytest.mark.parametrize("max_rows", [3, 100])
    def test_while_writing_lose_nothing_and_write_nothing_twice(
        self,
        database: UnreliableDatabase,
        other: Database,
        adapter: FakeAdapter,
        start: Callable[..., RunningEngine],
        failures: list[str],
        max_rows: int,
    ) -> None:
        running = start(idle_seconds=FOREVER)
        running.until_idle()  # from now on it works only when told
        batch_id = insert_batch(other, 3 * SLICE + 1)
        adapter.max_rows = max_rows

        def written_before_the_next(batch: MicroBatch) -> None:
            """Each pass gets a write of its own, so that the faults meet slices in all their states."""
            if not adapter.passes:
                database.failures = failures.copy()
            computed = adapter.computed.total()
            wait_until(
                lambda: bool(running.crashes) or len(get_results(other, batch_id)) == computed,
                "what was computed to be written",
            )

        adapter.before_forward = written_before_the_next
        running.notify()
        until_completed(other, batch_id)

        assert {(row.status, row.attempts) for row in get_results(other, batch_id)} == {("succeeded", 1)}
        assert set(adapter.computed.values()) == {1}

    def test_are_waited_out_by_a_stop(
        self, database: UnreliableDatabase, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 2 * SLICE)
        adapter.max_rows = SLICE
        gate = ForwardGate(adapter)
        running = start()
        gate.wait()
        database.failures = ["before", "after", "before", "before"]

        running.engine.stop()
        gate.open()
        running.join()

        assert [row.state for row in get_slices(other, batch_id)] == ["done", "queued"]
        assert [row.attempts for row in get_slices(other, batch_id)] == [1, 0]
        assert_consistent(other, batch_id)

    def test_while_claiming_are_waited_out(
        self, database: UnreliableDatabase, other: Database, start: Callable[..., RunningEngine]
    ) -> None:
        batch_id = insert_batch(other, 3 * SLICE)
        running = start(idle_seconds=0.001)
        wait_until(lambda: get_batch(other, batch_id).status == "completed", "the first batch")

        database.reads_to_fail = 5
        second = insert_batch(other, SLICE)
        until_completed(other, second)

        assert database.reads_to_fail == 0
        assert running.crashes == []

    @pytest.mark.parametrize("failures", [["after"], ["after", "before"], ["before", "after", "after"]])
    def test_that_hide_a_claim_cost_no_attempt(
        self, database: UnreliableDatabase, other: Database, start: Callable[..., RunningEngine], failures: list[str]
    ) -> None:
        running = start(idle_seconds=FOREVER)
        running.until_idle()
        batch_id = insert_batch(other, 3 * SLICE)

        database.failures = failures.copy()
        for _ in (*failures, "the last one goes well"):
            running.notify()
        until_completed(other, batch_id)

        assert {row.attempts for row in get_results(other, batch_id)} == {1}

    def test_while_reading_inputs_are_waited_out(
        self,
        database: UnreliableDatabase,
        other: Database,
        start: Callable[..., RunningEngine],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        batch_id = insert_batch(other, 3 * SLICE)
        reading, outages = claims.read_inputs, [3]

        def inputs(*arguments: Any) -> list[Job]:
            if outages[0]:
                outages[0] -= 1
                raise Unreachable("the database is away")
            return reading(*arguments)

        monkeypatch.setattr(claims, "read_inputs", inputs)

        start()
        until_completed(other, batch_id)

        assert {row.attempts for row in get_results(other, batch_id)} == {1}


class TestDefects:
    def test_are_told(
        self, database: UnreliableDatabase, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        insert_batch(other, SLICE)
        TestOutages().begin(database, adapter, ["defect"])

        running = start(idle_seconds=FOREVER)
        wait_until(lambda: bool(running.crashes), "the defect to be told")

        running.crashes.clear()


class TestWhatMayPass:
    """A busy device, a connection that broke: the job is tried again later, its neighbours are answered at once."""

    def fail(self, adapter: FakeAdapter, *words: str, times: int = 1000) -> None:
        """Passes with one of these texts fail, so many times each."""
        failures_left = dict.fromkeys(words, times)

        def before(batch: MicroBatch) -> None:
            if found := [row.features for row in batch.rows if failures_left.get(row.features, 0) > 0]:
                if len(batch.rows) == 1:
                    failures_left[found[0]] -= 1
                raise ConnectionResetError("the device is away; this text is a secret")

        adapter.before_forward = before

    def attempts(self, database: Database, batch_id: str) -> list[tuple[Any, ...]]:
        with database.read() as connection:
            query = select(Attempt.outcome, Attempt.start_position, Attempt.end_position, Attempt.error_code)
            found = connection.execute(query.where(Attempt.batch_id == batch_id).order_by(Attempt.id))
            return [tuple(row) for row in found]

    def test_is_tried_again_and_succeeds(
        self,
        other: Database,
        adapter: FakeAdapter,
        start: Callable[..., RunningEngine],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.fail(adapter, "odd", times=2)
        batch_id = insert_batch(other, texts("one", "odd", "two", "three"))
        waited: list[int] = []

        monkeypatch.setattr(writer.backoff, "backoff_seconds", lambda attempt, *_limits: waited.append(attempt) or 0.0)
        start()
        until_completed(other, batch_id)

        rows = get_results(other, batch_id)
        assert [(row.status, row.attempts) for row in rows] == [
            ("succeeded", 1),
            ("succeeded", 3),
            ("succeeded", 1),
            ("succeeded", 1),
        ]
        assert adapter.computed[(batch_id, 0)] == 1, "what was answered is not computed again"
        assert waited == [1, 2]
        assert self.attempts(other, batch_id) == [
            ("retried", 1, 2, "unavailable"),
            ("retried", 1, 2, "unavailable"),
            ("done", 0, 4, None),
        ]

    def test_is_a_dead_letter_after_the_last_try(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        self.fail(adapter, "odd")
        batch_id = insert_batch(other, texts("one", "odd"))
        patient_id = insert_batch(other, texts("odd"), max_attempts=5)

        start()
        until_completed(other, batch_id, patient_id)

        row = get_results(other, batch_id)[1]
        assert (row.status, row.error_code, row.attempts) == ("failed", "unavailable", 3)
        assert "attempt 3 of 3" in row.error_message
        assert "secret" not in row.error_message
        assert get_results(other, patient_id)[0].attempts == 5, "the batch's own number"

    def test_waits_in_sql_until_it_is_due(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        self.fail(adapter, "odd", times=1)
        batch_id = insert_batch(other, texts("odd", "one"))

        start(retry_seconds=1e9)
        wait_until(lambda: get_slices(other, batch_id)[0].available_at is not None, "the job to be put off")

        [row] = get_slices(other, batch_id)
        assert (row.state, row.worker_id, row.retries) == ("queued", None, 1)
        assert len(get_results(other, batch_id)) == 1
        execute(other, "UPDATE slices SET available_at = NULL")
        until_completed(other, batch_id)

    def test_twins_are_put_off_together(
        self, other: Database, adapter: FakeAdapter, start: Callable[..., RunningEngine]
    ) -> None:
        self.fail(adapter, "odd", times=1)
        batch_id = insert_batch(other, texts("odd", "odd", "one"))

        start()
        until_completed(other, batch_id)

        assert [row.attempts for row in get_results(other, batch_id)] == [2, 2, 1]
