"""Micro-batches in flight: one is launched before the one before is read, and each row is answered exactly once."""

import gc
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
import torch
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from worker.adapters.rows import MicroBatch, Row
from worker.engine.claim_size import ClaimSizer
from worker.engine.device_loop import DeviceLoop
from worker.engine.portions import PrefetchedRows, RawOutputs
from worker.failures import DeviceLost
from worker.leasing.leases import HeldLeases, Job, Lease
from worker.loading.runtime import Runtime
from worker.passes.planning import MicroBatchPlanner
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog

LEASE = Lease(1, "batch", 0, 100, 1, 1)
OTHER = Lease(2, "other", 0, 100, 1, 1)
PASS_SECONDS = 2.0  # of each pass, by the fake device's clock

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})
CULPRITS = st.sets(st.integers(0, 29))
Tensors = type("Tensors", (), {})
Check = Callable[[Sequence[Row]], None]


@dataclass
class FakePass:
    adapter: "FakeAdapter"
    rows: tuple[Row, ...]
    device_seconds: float | None = None

    def result(self) -> list[Any]:
        self.adapter.events.append(("read", positions(self.rows)))
        self.adapter.in_flight -= 1
        self.adapter.at_result(self.rows)
        self.device_seconds = self.adapter.pass_seconds
        return positions(self.rows)


class FakeAdapter:
    """A device with a clock; a row's output is its position."""

    max_rows = 8
    pass_seconds = PASS_SECONDS

    def __init__(self, passes_in_flight: int = 2) -> None:
        self.passes_in_flight = passes_in_flight
        self.should_interrupt: Callable[[], bool] = lambda: False
        self.at_launch: Check = lambda _rows: None
        self.at_result: Check = lambda _rows: None
        self.events: list[tuple[str, list[int]]] = []
        self.in_flight = self.max_in_flight = 0

    def launch(self, micro_batch: MicroBatch) -> FakePass:
        self.events.append(("launch", positions(micro_batch.rows)))
        self.at_launch(micro_batch.rows)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return FakePass(self, micro_batch.rows)

    def forward(self, micro_batch: MicroBatch) -> list[Any]:
        return self.launch(micro_batch).result()


class FixedBudget(TokenBudgetTuner):
    """A budget of two tokens that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(2, tunable=False)
        self.recorded_seconds: list[float] = []

    def record(self, budget_tokens: int, padded_tokens: int, tokens: int, seconds: float) -> None:
        self.recorded_seconds.append(seconds)


@pytest.fixture(autouse=True)
def without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "release_memory", lambda _runtime: None)


def positions(rows: Sequence[Row]) -> list[int]:
    return [row.job.position for row in rows]


def make_loop(
    adapter: FakeAdapter,
    budget: TokenBudgetTuner | None = None,
    held_leases: HeldLeases | None = None,
    device: torch.device | None = None,
) -> DeviceLoop:
    held_leases = held_leases or HeldLeases()
    held_leases.add([LEASE, OTHER], ())
    runtime = Runtime(adapter, None, 1, None, device, 1, 0)  # type: ignore[arg-type]
    return DeviceLoop(
        runtime,
        budget or FixedBudget(),
        held_leases,
        ClaimSizer(1.0, 100),
        Watchdog(1000.0, list),
        structlog.get_logger(),
    )


def make_rows(count: int, lease: Lease = LEASE, length: int = 1) -> list[Row]:
    return [Row(Job(lease, position, {}), None, length, truncated=False) for position in range(count)]


def run_rows(device_loop: DeviceLoop, rows: Sequence[Row]) -> list[RawOutputs]:
    return [*device_loop.run(PrefetchedRows([LEASE], MicroBatchPlanner(rows, 8), 0.0)), *device_loop.drain()]


def answers(outputs: Sequence[RawOutputs]) -> dict[int, Any]:
    pairs = [(row.job.position, output) for micro_batch in outputs for row, output in micro_batch.rows]
    assert len(dict(pairs)) == len(pairs), "a row was answered twice"
    return dict(pairs)


class TestOrder:
    def test_the_next_pass_is_launched_before_the_first_is_read(self) -> None:
        adapter = FakeAdapter()

        outputs = run_rows(make_loop(adapter), make_rows(6))

        assert [event for event, _ in adapter.events] == ["launch", "launch", "read", "launch", "read", "read"]
        assert answers(outputs) == {position: position for position in range(6)}
        assert adapter.max_in_flight == 2

    def test_a_device_without_such_passes_computes_one_after_the_other(self) -> None:
        adapter = FakeAdapter(passes_in_flight=1)

        run_rows(make_loop(adapter), make_rows(4))

        assert [event for event, _ in adapter.events] == ["launch", "read", "launch", "read"]

    def test_the_last_pass_of_a_claim_computes_while_the_next_claim_begins(self) -> None:
        adapter = FakeAdapter()
        device_loop = make_loop(adapter)
        claims = [PrefetchedRows([LEASE], MicroBatchPlanner(make_rows(2), 8), 0.0) for _ in range(2)]

        with capture_logs() as events:
            before = [list(device_loop.run(claim)) for claim in claims]
            after = list(device_loop.drain())

        assert [len(outputs) for outputs in before] == [0, 1]
        assert len(after) == 1
        assert [event for event, _ in adapter.events] == ["launch", "launch", "read", "read"]
        assert [event["jobs"] for event in events] == [2, 2], "each claim is logged once its last pass was read"

    def test_stopping_reads_what_was_launched_and_launches_nothing_more(self) -> None:
        adapter = FakeAdapter()
        device_loop = make_loop(adapter)
        adapter.at_result = lambda _rows: device_loop.stop(1_000.0)

        outputs = run_rows(device_loop, make_rows(8))

        assert answers(outputs) == {0: 0, 1: 1, 2: 2, 3: 3}
        assert adapter.in_flight == 0

    def test_rows_of_lost_slices_are_not_launched(self) -> None:
        adapter, held_leases = FakeAdapter(), HeldLeases()
        device_loop = make_loop(adapter, held_leases=held_leases)
        adapter.at_result = lambda _rows: held_leases.discard([OTHER])
        shared = Row(Job(OTHER, 8, {}), None, 1, truncated=False, duplicates=(Job(LEASE, 9, {}),))

        outputs = run_rows(device_loop, [*make_rows(4), *make_rows(4, lease=OTHER)[2:], shared])

        assert sorted(answers(outputs)) == [0, 1, 2, 3, 8], "the last row also answers a job of a slice that is held"


class TestFailures:
    def test_at_a_launch_blame_its_rows_after_the_pass_before_was_read(self) -> None:
        adapter = FakeAdapter()

        def poison(rows: Sequence[Row]) -> None:
            if 3 in positions(rows):
                raise ValueError("poison")

        adapter.at_launch = poison

        outputs = answers(run_rows(make_loop(adapter), make_rows(6)))

        assert isinstance(outputs.pop(3), ValueError)
        assert outputs == {0: 0, 1: 1, 2: 2, 4: 4, 5: 5}
        assert adapter.events[:4] == [("launch", [0, 1]), ("launch", [2, 3]), ("read", [0, 1]), ("launch", [2])]

    def test_by_out_of_memory_shrink_the_budget_before_the_next_launch(self) -> None:
        adapter, budget = FakeAdapter(), TokenBudgetTuner(4, tunable=False)

        def fill_memory(rows: Sequence[Row]) -> None:
            if len(rows) > 2:
                raise OutOfMemoryError("CUDA out of memory")

        adapter.at_launch = fill_memory

        outputs = answers(run_rows(make_loop(adapter, budget), make_rows(12)))

        assert outputs == {position: position for position in range(12)}
        assert [len(rows) for event, rows in adapter.events if event == "launch"] == [4] + [2] * 6

    def test_when_outputs_are_read_blame_the_rows_of_that_pass(self) -> None:
        adapter = FakeAdapter()

        def poison(rows: Sequence[Row]) -> None:
            if 1 in positions(rows):
                raise ValueError("poison")

        adapter.at_result = poison

        outputs = answers(run_rows(make_loop(adapter), make_rows(6)))

        assert isinstance(outputs.pop(1), ValueError)
        assert outputs == {0: 0, 2: 2, 3: 3, 4: 4, 5: 5}

    @pytest.mark.parametrize("error", [DeviceLost(), RuntimeError("CUDA error: device-side assert triggered")])
    @pytest.mark.parametrize("moment", ["at_launch", "at_result"])
    def test_of_the_device_fail_no_row(self, error: Exception, moment: str) -> None:
        adapter = FakeAdapter()

        def lose(rows: Sequence[Row]) -> None:
            if 2 in positions(rows):
                raise error

        setattr(adapter, moment, lose)
        answered: list[RawOutputs] = []

        device_loop = make_loop(adapter)
        running = device_loop.run(PrefetchedRows([LEASE], MicroBatchPlanner(make_rows(6), 8), 0.0))

        with pytest.raises(DeviceLost):
            answered.extend(running)

        assert answers(answered) == {0: 0, 1: 1}, "what was read before stays valid"

    @pytest.mark.parametrize("moment", ["at_launch", "at_result"])
    def test_keep_nothing_of_a_failed_pass(self, moment: str) -> None:
        adapter = FakeAdapter()
        left_over = weakref.WeakSet[Any]()

        def poison(rows: Sequence[Row]) -> None:
            tensors = Tensors()
            left_over.add(tensors)
            if positions(rows) == [2, 3]:
                raise ValueError("these two alone")

        setattr(adapter, moment, poison)
        device_loop = make_loop(adapter)
        gc.disable()
        try:
            outputs = run_rows(device_loop, make_rows(6))
            kept = len(left_over)
        finally:
            gc.enable()

        assert len(answers(outputs)) == 6
        assert kept == 0, "tensors in a failed pass's frames wait for Python's collector"

    @given(
        st.integers(1, 3),
        st.integers(1, 30),
        st.sets(st.integers(0, 29)),
        st.sets(st.integers(0, 29)),
        st.integers(1, 8),
    )
    def test_never_lose_a_row_or_answer_it_twice(
        self, passes_in_flight: int, count: int, at_launch: set[int], at_result: set[int], max_rows: int
    ) -> None:
        adapter = FakeAdapter(passes_in_flight)

        def fail_at_launch(rows: Sequence[Row]) -> None:
            if len(rows) > max_rows:
                raise OutOfMemoryError("CUDA out of memory")
            if at_launch & set(positions(rows)):
                raise ValueError("launch")

        def fail_at_result(rows: Sequence[Row]) -> None:
            if at_result & set(positions(rows)):
                raise ValueError("result")

        adapter.at_launch, adapter.at_result = fail_at_launch, fail_at_result

        outputs = answers(run_rows(make_loop(adapter, TokenBudgetTuner(8, tunable=False)), make_rows(count)))

        failed = {position for position, output in outputs.items() if isinstance(output, ValueError)}
        assert failed == (at_launch | at_result) & set(range(count))
        assert all(output == position for position, output in outputs.items() if position not in failed)
        assert set(outputs) == set(range(count))
        assert adapter.max_in_flight <= passes_in_flight


class TestTime:
    def test_is_that_of_the_device_where_it_has_a_clock(self) -> None:
        adapter, budget = FakeAdapter(), FixedBudget()

        outputs = run_rows(make_loop(adapter, budget), make_rows(6))

        assert [micro_batch.device_seconds for micro_batch in outputs] == [PASS_SECONDS] * 3
        assert budget.recorded_seconds == [PASS_SECONDS] * 3

    def test_of_a_cpu_that_the_tuner_sees_is_processor_time(self) -> None:
        adapter, budget = FakeAdapter(passes_in_flight=1), FixedBudget()
        adapter.at_launch = lambda _rows: time.sleep(0.05)  # other work of the machine has the core meanwhile

        device_loop, before = make_loop(adapter, budget, device=torch.device("cpu")), time.thread_time()
        run_rows(device_loop, make_rows(2))

        [seconds] = budget.recorded_seconds
        assert seconds <= time.thread_time() - before, "which the sleep is no part of"

    def test_of_the_device_and_of_its_thread_are_logged_apart(self) -> None:
        prefetched = PrefetchedRows([LEASE], MicroBatchPlanner(make_rows(2), 8), time.monotonic() - 1.0)
        adapter = FakeAdapter()
        adapter.pass_seconds = 1_000.0  # longer than any machine takes for the test
        device_loop = make_loop(adapter)
        with capture_logs() as events:
            list(device_loop.run(prefetched))
            list(device_loop.drain())

        [event] = [event for event in events if event["event"] == "claim.processed"]
        assert event["device_busy"] == 1.0, "though the claim was asked for a second ago"
        assert event["device_thread_busy"] < 1.0, "this thread hardly waited"

    def test_of_launch_and_result_together_is_watched(self) -> None:
        adapter, hung = FakeAdapter(passes_in_flight=1), list[bool]()
        device_loop = make_loop(adapter)
        watchdog = device_loop._watchdog
        adapter.at_launch = lambda _rows: time.sleep(0.01)
        adapter.at_result = lambda _rows: hung.append(watchdog.run_once(time.monotonic() + 1000.0 - 0.005))

        run_rows(device_loop, make_rows(2))

        assert hung == [True], "the launch took the last of the limit"
        assert not watchdog.run_once(time.monotonic() + 2_000.0), "nothing is watched between passes"

    def test_of_parts_is_added_up_where_a_micro_batch_failed(self) -> None:
        adapter = FakeAdapter()

        def fill_memory(rows: Sequence[Row]) -> None:
            if len(rows) > 1:
                raise OutOfMemoryError("CUDA out of memory")

        adapter.at_launch = fill_memory

        outputs = run_rows(make_loop(adapter), make_rows(2))

        assert [micro_batch.device_seconds for micro_batch in outputs] == [2 * PASS_SECONDS]
