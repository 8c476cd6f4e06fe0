"""Guard passes give each row its own output, also with two of them in flight, and take turns with other threads."""

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from tests.factories.guards import FakeGuardAdapter, guard_runtime
from worker.adapters.rows import MicroBatch, Row
from worker.guards.guard_passes import GuardPasses
from worker.leasing.leases import Job, Lease
from worker.passes.device_lock import DeviceLock
from worker.passes.watchdog import Watchdog

LEASE = Lease(0, "", 0, 1, 0, 0)


class LaunchingGuardAdapter(FakeGuardAdapter):
    """Computes when a pass is collected; `launched` counts those that were not."""

    passes_in_flight = 2

    def __init__(self) -> None:
        super().__init__()
        self.launched = self.most_launched = 0

    def launch(self, batch: MicroBatch) -> Any:
        self.before_forward(batch)
        self.launched += 1
        self.most_launched = max(self.most_launched, self.launched)
        return PendingGuardPass(self, batch)


class PendingGuardPass:
    device_seconds = 0.25

    def __init__(self, adapter: LaunchingGuardAdapter, batch: MicroBatch) -> None:
        self._adapter, self._batch = adapter, batch

    def result(self) -> list[float]:
        self._adapter.launched -= 1
        self._adapter.texts.append([row.features for row in self._batch.rows])
        return [float(row.features) for row in self._batch.rows]


def make_rows(count: int) -> list[Row]:
    return [Row(Job(LEASE, place, {}), str(place), 1 + place % 3, truncated=False) for place in range(count)]


def make_passes(adapter: FakeGuardAdapter, turns: Any, should_stop: Callable[[], bool] = lambda: False) -> GuardPasses:
    watchdog = Watchdog(1000.0, list)
    return GuardPasses(guard_runtime(adapter, tokens=6), watchdog, turns, should_stop, structlog.get_logger())


def test_each_row_has_its_own_output_with_two_passes_in_flight() -> None:
    adapter = LaunchingGuardAdapter()
    passes = make_passes(adapter, DeviceLock())

    outputs = passes.run(make_rows(20))

    assert [output.raw for output in outputs] == list(range(20))
    assert adapter.most_launched == 2
    assert passes.spent_seconds == 0.25 * len(adapter.texts)
    assert sum(output.device_seconds for output in outputs) == passes.spent_seconds


def test_a_row_that_fails_alone_leaves_the_others() -> None:
    adapter = LaunchingGuardAdapter()

    def fail(batch: MicroBatch) -> None:
        if any(row.features == "7" for row in batch.rows):
            raise RuntimeError

    adapter.before_forward = fail
    outputs = make_passes(adapter, DeviceLock()).run(make_rows(20))

    assert isinstance(outputs[7].raw, RuntimeError)
    assert [output.raw for place, output in enumerate(outputs) if place != 7] == [*range(7), *range(8, 20)]


def test_each_launch_is_one_turn() -> None:
    turns: list[str] = []

    class Turns:
        def __enter__(self) -> None:
            turns.append("begin")

        def __exit__(self, *_: object) -> None:
            turns.append("end")

    adapter = FakeGuardAdapter()
    adapter.before_forward = lambda _batch: turns.append("pass")

    make_passes(adapter, Turns()).run(make_rows(9))

    assert turns == ["begin", "pass", "end"] * len(adapter.texts)


def test_no_rows_need_no_pass() -> None:
    adapter = FakeGuardAdapter()
    rows: Sequence[Row] = []

    assert make_passes(adapter, DeviceLock()).run(rows) == []
    assert adapter.texts == []
