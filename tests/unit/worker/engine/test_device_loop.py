"""The device loop: rows join and leave micro-batches, finished rows keep their outputs, a culprit fails alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog

from worker.adapters.interface import Interrupted
from worker.adapters.rows import MicroBatch, Row
from worker.engine import device_loop as device_loop_module
from worker.engine.claim_size import ClaimSizer
from worker.engine.device_loop import DeviceLoop
from worker.engine.portions import PrefetchedRows, RawOutputs
from worker.failures import DeviceLost, is_out_of_memory, is_transient
from worker.leasing.leases import HeldLeases, Job, Lease
from worker.loading.runtime import Runtime
from worker.passes.planning import MicroBatchPlanner
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog

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
            id(row): output
            for ended in self.generate(batch.rows, lambda _count: (), len(batch.rows))
            for row, output in ended
        }
        return [answers[id(row)] for row in batch.rows]

    def generate(
        self, rows: Sequence[Row], fetch_more: Callable[[int], Sequence[Row]], max_rows: int
    ) -> Iterator[list[tuple[Row, Any]]]:
        waiting, running = list(rows), list[list[Any]]()
        places = min(self.places, max_rows)
        while True:
            fetched = (
                waiting[: places - len(running)] or fetch_more(places - len(running)) if len(running) < places else []
            )
            del waiting[: len(fetched)]
            running += [[row, row.length] for row in fetched]
            if not running:
                return
            if self.should_interrupt():
                raise Interrupted
            here = [row for row, _ in running]
            self.before_step(here)
            self.steps.append([row.job.position for row in here])
            for entry in running:
                entry[1] -= 1
            ended = [row for row, remaining in running if remaining == 0]
            running = [entry for entry in running if entry[1]]
            if ended:
                self.computed += [row.job.position for row in ended]
                yield [(row, row.job.position) for row in ended]


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


def make_loop(
    adapter: FakeAdapter, budget: TokenBudgetTuner | None = None, holdings: HeldLeases | None = None
) -> DeviceLoop:
    held_leases = holdings or HeldLeases()
    held_leases.add([LEASE, OTHER], ())
    runtime = Runtime(adapter, None, 1, None, None, 1, 0)  # type: ignore[arg-type]
    return DeviceLoop(
        runtime,
        budget or TokenBudgetTuner(4, tunable=False),
        held_leases,
        ClaimSizer(1.0, 100),
        Watchdog(1000.0, list),
        structlog.get_logger(),
    )


def make_rows(lengths: Sequence[int], key: Any = None, lease: Lease = LEASE) -> list[Row]:
    return [Row(Job(lease, index, {}), None, length, truncated=False, key=key) for index, length in enumerate(lengths)]


def run_rows(device_loop: DeviceLoop, rows: Sequence[Row]) -> list[RawOutputs]:
    return list(device_loop.run(PrefetchedRows([LEASE], MicroBatchPlanner(rows, 8), 0.0)))


def run_portions(device_loop: DeviceLoop, rows: Sequence[Row], following: list[list[Row]]) -> list[RawOutputs]:
    """Run a portion, and those of the following ones that the loop takes, which are removed."""

    def take_next(_running_rows: Sequence[Row]) -> PrefetchedRows | None:
        return PrefetchedRows([OTHER], MicroBatchPlanner(following.pop(0), 8), 0.0) if following else None

    return list(device_loop.run(PrefetchedRows([LEASE], MicroBatchPlanner(rows, 8), 0.0), take_next))


def answers(outputs: Sequence[RawOutputs]) -> dict[int, Any]:
    return {row.job.position: output for micro_batch in outputs for row, output in micro_batch.rows}


class TestRowsOfAWindow:
    def test_enter_as_others_leave(self, adapter: FakeAdapter) -> None:
        lengths = [9, 1, 1, 1, 1, 1]

        outputs = run_rows(make_loop(adapter), make_rows(lengths))

        assert answers(outputs) == {index: index for index in range(6)}
        assert len(adapter.steps) == 9, "as many steps as the longest takes"
        assert [row.job.position for row, _ in outputs[-1].rows] == [0], "short ones were answered before it"
        assert all(output.device_seconds >= 0 for output in outputs)

    def test_come_in_for_one_budget_at_a_time(self, adapter: FakeAdapter) -> None:
        adapter.places = 6
        fetched_tokens: list[int] = []
        generate = adapter.generate

        def generate_counted(rows: Sequence[Row], fetch_more: Callable[[int], Sequence[Row]], max_rows: int) -> Any:
            def count_fetched(count: int) -> Sequence[Row]:
                fetched = fetch_more(count)
                fetched_tokens.append(sum(row.length for row in fetched))
                return fetched

            return generate(rows, count_fetched, max_rows)

        adapter.generate = generate_counted  # type: ignore[method-assign]

        run_rows(make_loop(adapter, TokenBudgetTuner(8, tunable=False)), make_rows([4] * 9))

        assert max(fetched_tokens) == 8
        assert max(len(step) for step in adapter.steps) == 6

    def test_of_another_key_wait_for_another_micro_batch(self, adapter: FakeAdapter) -> None:
        one, two = make_rows([3, 1], key="a"), make_rows([3, 1, 1], key="b", lease=OTHER)
        keys: list[set[Any]] = []
        adapter.before_step = lambda rows: keys.append({row.key for row in rows})

        run_rows(make_loop(adapter), [*one, *two])

        assert keys == [{"a"}] * 3 + [{"b"}] * 3

    def test_are_left_out_when_their_lease_was_lost_meanwhile(self, adapter: FakeAdapter) -> None:
        holdings = HeldLeases()
        device_loop = make_loop(adapter, holdings=holdings)
        lost = make_rows([1, 1], lease=OTHER)
        adapter.before_step = lambda _rows: holdings.discard([OTHER])

        outputs = run_rows(device_loop, [*make_rows([2, 2, 1]), *lost])

        assert {row.job.lease.slice_id for output in outputs for row, _ in output.rows} == {LEASE.slice_id}
        assert sum(len(output.rows) for output in outputs) == 3


class TestRowsOfTheNextPortion:
    def test_enter_while_the_last_rows_of_the_one_before_run(self, adapter: FakeAdapter) -> None:
        device_loop = make_loop(adapter)
        following = [make_rows([1, 1, 1], lease=OTHER)]

        outputs = run_portions(device_loop, make_rows([7, 1]), following)

        assert sum(len(output.rows) for output in outputs) == 5
        assert len(adapter.steps) == 7, "as many steps as the longest takes"
        assert following == []

    def test_may_be_longer(self, adapter: FakeAdapter) -> None:
        outputs = run_portions(make_loop(adapter), make_rows([4, 1]), [make_rows([9], lease=OTHER)])

        assert [row.length for output in outputs for row, _ in output.rows] == [1, 4, 9]
        assert len(adapter.steps) == 2 + 9

    def test_wait_for_rows_with_other_parameters_that_were_claimed_before(self, adapter: FakeAdapter) -> None:
        keys: list[set[Any]] = []
        adapter.before_step = lambda rows: keys.append({row.key for row in rows})
        first = [*make_rows([5, 1], key="a"), *make_rows([1, 1], key="b")]

        following = [make_rows([1, 1], key="a", lease=OTHER)]

        run_portions(make_loop(adapter), first, following)

        assert keys == [{"a"}] * 5 + [{"b"}]
        assert len(following) == 1

    def test_with_other_parameters_begin_when_the_run_has_ended(self, adapter: FakeAdapter) -> None:
        keys: list[set[Any]] = []
        adapter.before_step = lambda rows: keys.append({row.key for row in rows})
        second = [*make_rows([1, 1], key="b", lease=OTHER), *make_rows([1], key="a", lease=OTHER)]

        run_portions(make_loop(adapter), make_rows([5, 1], key="a"), [second, make_rows([1], key="a")])

        assert keys == [{"a"}] * 5 + [{"b"}] + [{"a"}]

    def test_come_from_a_bounded_number_of_portions(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(device_loop_module, "MAX_PORTIONS_PER_RUN", 3)
        following = [make_rows([1], lease=OTHER) for _ in range(5)]
        runs: list[int] = []
        generate = adapter.generate
        adapter.generate = lambda rows, fetch, most: (runs.append(len(rows)), generate(rows, fetch, most))[1]  # type: ignore[method-assign]

        outputs = run_portions(make_loop(adapter), make_rows([99]), following)

        assert len(following) == 3, "two were taken"
        assert sum(len(output.rows) for output in outputs) == 3
        assert runs == [1]

    def test_run_even_when_none_of_the_portion_before_is_held_any_more(self, adapter: FakeAdapter) -> None:
        holdings = HeldLeases()
        device_loop = make_loop(adapter, holdings=holdings)
        adapter.before_step = lambda _rows: holdings.discard([LEASE])

        outputs = run_portions(device_loop, make_rows([5, 1, 1]), [make_rows([1, 1], lease=OTHER)])

        assert [row.job.lease for output in outputs for row, _ in output.rows] == [OTHER, OTHER, LEASE]

    def test_do_not_enter_when_the_process_stops(self, adapter: FakeAdapter) -> None:
        device_loop = make_loop(adapter)
        adapter.before_step = lambda _rows: device_loop.stop(1_000.0)
        following = [make_rows([1], lease=OTHER)]

        run_portions(device_loop, make_rows([3, 1]), following)

        assert len(following) == 1

    def test_are_bisected_with_the_others_when_one_fails(self, adapter: FakeAdapter) -> None:
        def poisoned(here: Sequence[Row]) -> None:
            if any(row.job.lease == OTHER and row.job.position == 1 for row in here):
                raise ValueError("poison")

        adapter.before_step = poisoned

        outputs = run_portions(make_loop(adapter), make_rows([9, 1]), [make_rows([1, 1, 1], lease=OTHER)])

        failed = [row.job for output in outputs for row, raw in output.rows if isinstance(raw, ValueError)]
        assert [(job.lease, job.position) for job in failed] == [(OTHER, 1)]
        assert sum(len(output.rows) for output in outputs) == 5

    def test_wait_for_the_end_of_a_run_with_fewer_rows_for_lack_of_memory(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Runtime, "release_memory", lambda _runtime: None)
        adapter.places = 8
        device_loop = make_loop(adapter, TokenBudgetTuner(1_000, tunable=False))
        failures = iter([OutOfMemoryError("CUDA out of memory")])

        def fail_once(_rows: Sequence[Row]) -> None:
            if (error := next(failures, None)) is not None:
                raise error

        adapter.before_step = fail_once
        run_rows(device_loop, make_rows([1] * 8))
        following = [make_rows([1], lease=OTHER)]

        run_portions(device_loop, make_rows([3]), following)

        assert len(following) == 1

    def test_are_recorded_as_one_claim_after_the_other(self, adapter: FakeAdapter) -> None:
        device_loop = make_loop(adapter)

        with structlog.testing.capture_logs() as logs:
            run_portions(device_loop, make_rows([7, 1]), [make_rows([1, 1, 1], lease=OTHER)])

        assert [entry["jobs"] for entry in logs if entry["event"] == "claim.processed"] == [1, 4]

    def test_are_recorded_with_the_next_when_none_was_answered_meanwhile(self, adapter: FakeAdapter) -> None:
        adapter.places = 4
        following = [make_rows([9], lease=OTHER), make_rows([9], lease=OTHER)]

        with structlog.testing.capture_logs() as logs:
            run_portions(make_loop(adapter), make_rows([9, 9]), following)

        assert [entry["jobs"] for entry in logs if entry["event"] == "claim.processed"] == [4]


class TestAFailure:
    def test_keeps_finished_rows_and_fails_the_culprit(self, adapter: FakeAdapter) -> None:
        rows = make_rows([5, 1, 1, 1, 4, 1, 1])

        def poisoned(here: Sequence[Row]) -> None:
            if any(row.job.position == 6 for row in here):
                raise ValueError("poison")

        adapter.before_step = poisoned

        outputs = answers(run_rows(make_loop(adapter), rows))

        assert isinstance(outputs.pop(6), ValueError)
        assert outputs == {index: index for index in range(6)}
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
        device_loop = make_loop(adapter, budget)

        outputs = answers(run_rows(device_loop, make_rows([2] * 8)))

        assert outputs == {index: index for index in range(8)}
        assert device_loop._max_rows < 8
        assert budget.tokens < 1_000

    @pytest.mark.parametrize("flows", [True, False])
    @pytest.mark.parametrize("is_theirs", [True, False])
    def test_by_a_row_that_does_not_fit_alone_leaves_the_budget(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, flows: bool, is_theirs: bool
    ) -> None:
        monkeypatch.setattr(device_loop_module, "ContinuousAdapter", FakeAdapter if flows else Never)
        monkeypatch.setattr(Runtime, "release_memory", lambda _runtime: None)
        monkeypatch.setattr(Runtime, "is_memory_taken_by_others", lambda _runtime, _error: is_theirs)
        adapter.places = 8
        budget = TokenBudgetTuner(1_000, tunable=False)
        before = budget.limits

        def full(here: Sequence[Row]) -> None:
            if any(row.length == 9 for row in here):
                raise OutOfMemoryError("CUDA out of memory")

        adapter.before_step = full
        device_loop = make_loop(adapter, budget)

        for _ in range(5):
            outputs = answers(run_rows(device_loop, make_rows([1, 1, 9, 1])))
            assert is_out_of_memory(outputs[2])

        assert (budget.limits == before) is not is_theirs

    @pytest.mark.parametrize("flows", [True, False])
    @pytest.mark.parametrize("is_theirs", [True, False])
    def test_by_the_memory_of_others_may_pass(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, flows: bool, is_theirs: bool
    ) -> None:
        monkeypatch.setattr(device_loop_module, "ContinuousAdapter", FakeAdapter if flows else Never)
        monkeypatch.setattr(Runtime, "release_memory", lambda _runtime: None)
        monkeypatch.setattr(Runtime, "is_memory_taken_by_others", lambda _runtime, _error: is_theirs)

        def full(here: Sequence[Row]) -> None:
            if any(row.job.position == 1 for row in here):
                raise OutOfMemoryError("CUDA out of memory")

        adapter.before_step = full

        outputs = answers(run_rows(make_loop(adapter), make_rows([1, 1, 1])))

        error = outputs.pop(1)
        assert (is_out_of_memory(error), is_transient(error)) == (True, is_theirs)
        assert outputs == {0: 0, 2: 2}

    def test_that_is_no_exception_is_an_answer_too(self, adapter: FakeAdapter) -> None:
        class Panic(BaseException):
            pass

        def panics(here: Sequence[Row]) -> None:
            if any(row.job.position == 1 for row in here):
                raise Panic

        adapter.before_step = panics

        outputs = answers(run_rows(make_loop(adapter), make_rows([1, 1, 1])))

        assert isinstance(outputs.pop(1), RuntimeError)
        assert outputs == {0: 0, 2: 2}

    @pytest.mark.parametrize("flows", [True, False])
    def test_that_loses_the_device_while_others_are_bisected_gives_no_row_an_output(
        self, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, flows: bool
    ) -> None:
        passes: list[list[int]] = []

        def poison_then_lose(here: Sequence[Row]) -> None:
            passes.append([row.job.position for row in here])
            if 6 in passes[-1] and len(passes) > 1:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if {1, 6} & set(passes[-1]):
                raise ValueError("poison")

        adapter.places = 8
        adapter.before_step = poison_then_lose
        if not flows:
            monkeypatch.setattr(device_loop_module, "ContinuousAdapter", Never)
        device_loop = make_loop(adapter, TokenBudgetTuner(1_000, tunable=False))
        outputs = device_loop.run(PrefetchedRows([LEASE], MicroBatchPlanner(make_rows([1] * 8), 8), 0.0))

        with pytest.raises(DeviceLost):
            next(outputs)

        assert len(passes) > 1
        assert 6 in passes[-1], "nothing runs on a lost device"

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
            run_rows(make_loop(adapter), make_rows([1, 1, 1]))


class TestStopping:
    def test_lets_no_row_join_and_finishes_the_running_ones(self, adapter: FakeAdapter) -> None:
        device_loop = make_loop(adapter, TokenBudgetTuner(6, tunable=False))
        adapter.before_step = lambda _rows: device_loop.stop(1_000.0)

        outputs = answers(run_rows(device_loop, make_rows([3, 2, 1, 1])))

        assert outputs == {0: 0, 1: 1}

    def test_aborts_a_slow_forward_pass_and_keeps_finished_rows(self, adapter: FakeAdapter) -> None:
        device_loop = make_loop(adapter)

        def stop(_rows: Sequence[Row]) -> None:
            if len(adapter.steps) == 2:
                device_loop.stop(-1.0)

        adapter.before_step = stop

        outputs = answers(run_rows(device_loop, make_rows([9, 1, 1, 1, 1])))

        assert outputs == {1: 1, 2: 2}
