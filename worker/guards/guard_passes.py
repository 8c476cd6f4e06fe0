"""Guard passes run the rows of a guard model in micro-batches, in turn with the passes of the pipeline's own model."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from worker.adapters.interface import Interrupted
from worker.adapters.rows import Row
from worker.guards.guard_model import RowOutput
from worker.passes import memory_failures
from worker.passes.forward_runner import ForwardRunner, LaunchedPass
from worker.passes.planning import MicroBatchPlanner
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime


class GuardPasses:
    """Runs rows of one guard model; used by one thread alone.

    turns: entered for each launch; the threads of the process share the device.
    should_stop: asked before each micro-batch.
    spent_seconds: the device's time for all passes so far.
    """

    def __init__(
        self,
        runtime: "Runtime",
        watchdog: Watchdog,
        turns: AbstractContextManager[object],
        should_stop: Callable[[], bool],
        log: Any,
    ) -> None:
        self.spent_seconds = 0.0
        self._runtime = runtime
        self._should_stop = should_stop
        self._log = log
        self._token_budget = TokenBudgetTuner(
            runtime.micro_batch_tokens, tunable=runtime.tunable, max_tokens=runtime.max_micro_batch_tokens
        )
        is_cpu = runtime.device is not None and runtime.device.type == "cpu"
        self._runner = ForwardRunner(
            runtime.adapter, self._token_budget, watchdog, self._handle_failure, is_cpu=is_cpu, turns=turns
        )

    def run(self, rows: Sequence[Row]) -> list[RowOutput]:
        """Return the output of each row, in order, or the exception that it alone raises.

        Raises Interrupted once the worker stops, and DeviceLost.
        """
        planner, in_flight = MicroBatchPlanner(rows, self._runtime.adapter.max_rows), deque[LaunchedPass]()
        outputs: dict[int, RowOutput] = {}  # by the identity of the row
        while planner.has_rows:
            if self._should_stop():
                raise Interrupted
            budget_tokens = self._token_budget.next()
            micro_batch = planner.next(budget_tokens)
            assert micro_batch is not None
            in_flight.append(self._runner.launch(micro_batch.rows, budget_tokens))
            # Parts of a failed micro-batch run again, so what was launched before it is collected first.
            max_in_flight = self._runner.passes_in_flight - 1 if in_flight[-1].error is None else 0
            while len(in_flight) > max_in_flight:
                self._collect(in_flight.popleft(), outputs)
        while in_flight:
            self._collect(in_flight.popleft(), outputs)
        return [outputs[id(row)] for row in rows]

    def _collect(self, launched: LaunchedPass, outputs: dict[int, RowOutput]) -> None:
        before = self._runner.spent
        results = self._runner.collect(launched)
        seconds = self._runner.spent.since(before).device
        self.spent_seconds += seconds
        for row, raw in results:
            outputs[id(row)] = RowOutput(raw, seconds / len(results))

    def _handle_failure(self, error: BaseException, rows: Sequence[Row]) -> None:
        memory_failures.shrink_if_out_of_memory(error, rows, self._runtime, self._token_budget, self._log)
