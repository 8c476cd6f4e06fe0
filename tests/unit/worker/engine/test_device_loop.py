"""The device loop: rows join and leave micro-batches, finished rows keep their outputs, a culprit fails alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog

from worker.adapters.interface import Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine import device_loop as device_loop_module
from worker.engine.claim_size import ClaimSizer
from worker.engine.device_loop import DeviceLoop, PrefetchedRows, RawOutputs
from worker.engine.planning import MicroBatchPlanner
from worker.engine.token_budget import TokenBudgetTuner
from worker.engine.watchdog import Watchdog
from worker.failures import DeviceLost
from worker.leasing.leases import HeldLeases, Job, Lease
from worker.loading.runtime import Runtime

LEASE = Lease(1, "batch", 0, 100, 1, 1)
OTHER = Lease(2, "other", 0, 100, 1, 1)

Never = type("Never", (), {})
OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


class FakeAdapter:
    """A row of length n has ended after n steps; every row's answer is its position."""

    max_rows = 8

    def __init__(self, places: int = 2) -> None:
        self.places = places
        self.should_interrupt: Callable[[], bool] = lambda: False
        self.before_step: Callable[[Sequence[Row]], None] = lambda _rows: None
        self.steps: list[list[int]] = []  # the rows in each step
        self.computed: list[int] = []  # finished rows, in order

    def forward(self, batch: MicroBatch) -> list[Any]:
        answers = {
            id(row): raw
            for ended in self.generate(batch.rows, lambda _count: (), len(batch.rows))
            for row, raw in ended
        }
        return [answers[id(row)] for row in batch.rows]

    def generate(
        self, rows: Sequence[Row], fetch_more: Callable[[int], Sequence[Row]], max_rows: int
    ) -> Iterator[list[tuple[Row, Any]]]:
        waiting, running = list(rows), list[list[Any]]()
        places = min(self.places, max_rows)
        while True:
            drawn = (
                waiting[: places - len(running)] or fetch_more(places - len(running)) if len(running) < places else []
            )
            del waiting[: len(drawn)]
            running += [[row, row.length] for row in drawn]
            if not running:
                return
            if self.should_interrupt():
                raise Interrupted
            here = [row for row, _ in running]
            self.before_step(here)
            self.steps.append([row.job.position for row in here])
            for each in running:
                each[1] -= 1
            ended = [row for row, left in running if left == 0]
            running = [each for each in running if each[1]]
            if ended:
                self.computed += [row.job.position for row in ended]
                yield [(row, row.job.position) for row in ended]


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


def made(
    adapter: FakeAdapter, budget: TokenBudgetTuner | None = None, holdings: HeldLeases | None = None
) -> DeviceLoop:
    held = holdings or HeldLeases()
    held.add([LEASE, OTHER], ())
    runtime = Runtime(adapter, None, 1, None, None, 1, 0)  # type: ignore[arg-type]
    return DeviceLoop(
        runtime,
        budget or TokenBudgetTuner(4, tunable=False),
        held,
        ClaimSizer(1.0, 100),
        Watchdog(1000.0, list),
        structlog.get_logger(),
    )


def window(lengths: Sequence[int], key: Any = None, lease: Lease = LEASE) -> list[Row]:
    return [Row(Job(lease, place, {}), None, length, truncated=False, key=key) for place, length in enumerate(lengths)]


def through(passes: DeviceLoop, rows: Sequence[Row]) -> list[RawOutputs]:
    return list(passes.run(PrefetchedRows([LEASE], MicroBatchPlanner(rows, 8), 0.0)))


def answers(raws: Sequence[RawOutputs]) -> dict[int, Any]:
    return {row.job.position: raw for raw in raws for row, raw in raw.rows}


class TestRowsOfAWindow:
    def test_enter_as_others_leave(self, adapter: FakeAdapter) -> None:
        lengths = [9, 1, 1, 1, 1, 1]

        raws = through(made(adapter), window(lengths))

        assert answers(raws) == {place: place for place in range(6)}
        assert len(adapter.steps) == 9, "as many steps as the longest takes"
        assert [row.job.position for row, _ in raws[-1].rows] == [0], "short ones were answered before it"
        assert all(raw.device_seconds >= 0 for raw in raws)

    def test_come_in_for_one_budget_at_a_time(self, adapter: FakeAdapter) -> None:
        adapter.places = 6
        asked: list[int] = []
        generate = adapter.generate

        def watched(rows: Sequence[Row], fetch_more: Callable[[int], Sequence[Row]], max_rows: int) -> Any:
            def counted(count: int) -> Sequence[Row]:
                drawn = fetch_more(count)
                asked.append(sum(row.length for row in drawn))
                return drawn

            return generate(rows, counted, max_rows)

        adapter.generate = watched  # type: ignore[method-assign]

        through(made(adapter, TokenBudgetTuner(8, tunable=False)), window([4] * 9))

        assert max(asked) == 8
        assert max(len(step) for step in adapter.steps) == 6

    def test_of_another_key_wait_for_another_micro_batch(self, adapter: FakeAdapter) -> None:
        one, two = window([3, 1], key="a"), window([3, 1, 1], key="b", lease=OTHER)
        keys: list[set[Any]] = []
        adapter.before_step = lambda rows: keys.append({row.key for row in rows})

        through(made(adapter), [*one, *two])

        assert keys == [{"a"}] * 3 + [{"b"}] * 3

    def test_are_left_out_when_their_lease_was_lost_meanwhile(self, adapter: FakeAdapter) -> None:
        holdings = HeldLeases()
        passes = made(adapter, holdings=holdings)
        lost = window([1, 1], lease=OTHER)
        adapter.before_step = lambda _rows: holdings.discard([OTHER])

        raws = through(passes, [*window([2, 2, 1]), *lost])

        assert {row.job.lease.slice_id for raw in raws for row, _ in raw.rows} == {LEASE.slice_id}
        assert sum(len(raw.rows) for raw in raws) == 3


class TestAFailure:
    def test_keeps_finished_rows_and_fails_the_culprit(self, adapter: FakeAdapter) -> None:
        rows = window([5, 1, 1, 1, 4, 1, 1])

        def poisoned(here: Sequence[Row]) -> None:
            if any(row.job.position == 6 for row in here):
                raise ValueError("poison")

        adapter.before_step = poisoned

        found = answers(through(made(adapter), rows))

        assert isinstance(found.pop(6), ValueError)
        assert found == {place: place for place in range(6)}
        assert sorted(adapter.computed) == sorted(set(adapter.computed)), "nothing was computed twice to its end"

    def test_by_out_of_memory_halves_the_rows_at_once(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Runtime, "release_memory", lambda _runtime: None)
        adapter.places = 8
        budget = TokenBudgetTuner(1_000, tunable=False)

        def full(here: Sequence[Row]) -> None:
            if len(here) > 3:
                raise OutOfMemoryError("CUDA out of memory")

        adapter.before_step = full
        passes = made(adapter, budget)

        found = answers(through(passes, window([2] * 8)))

        assert found == {place: place for place in range(8)}
        assert passes._max_rows < 8
        assert budget.tokens < 1_000

    def test_that_is_no_exception_is_an_answer_too(self, adapter: FakeAdapter) -> None:
        class Panic(BaseException):
            pass

        def panics(here: Sequence[Row]) -> None:
            if any(row.job.position == 1 for row in here):
                raise Panic

        adapter.before_step = panics

        found = answers(through(made(adapter), window([1, 1, 1])))

        assert isinstance(found.pop(1), RuntimeError)
        assert found == {0: 0, 2: 2}

    @pytest.mark.parametrize("flows", [True, False])
    def test_that_loses_the_device_fails_no_row(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, flows: bool
    ) -> None:
        def lose(_rows: Sequence[Row]) -> None:
            raise RuntimeError("CUDA error: device-side assert triggered")

        adapter.before_step = lose
        if not flows:
            monkeypatch.setattr(device_loop_module, "ContinuousAdapter", Never)

        with pytest.raises(DeviceLost):
            through(made(adapter), window([1, 1, 1]))


class TestStopping:
    def test_lets_no_row_join_and_finishes_the_running_ones(self, adapter: FakeAdapter) -> None:
        passes = made(adapter, TokenBudgetTuner(6, tunable=False))
        adapter.before_step = lambda _rows: passes.stop(1_000.0)

        found = answers(through(passes, window([3, 2, 1, 1])))

        assert found == {0: 0, 1: 1}

    def test_aborts_a_slow_forward_pass_and_keeps_finished_rows(self, adapter: FakeAdapter) -> None:
        passes = made(adapter)

        def stop(_rows: Sequence[Row]) -> None:
            if len(adapter.steps) == 2:
                passes.stop(-1.0)

        adapter.before_step = stop

        found = answers(through(passes, window([9, 1, 1, 1, 1])))

        assert found == {1: 1, 2: 2}
