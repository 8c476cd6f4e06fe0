"""The forward runner runs micro-batches on the device, and isolates the rows at fault in those that fail."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.processes.failpoints import failpoint
from worker.adapters.interface import Adapter, Interrupted, LaunchingAdapter, PendingPass
from worker.adapters.rows import MicroBatch, Row
from worker.failures import DeviceLost, is_out_of_memory, is_transient
from worker.passes.bisection import bisect_failed
from worker.passes.device_lock import NO_TURNS
from worker.passes.token_budget import TokenBudgetTuner
from worker.passes.watchdog import Watchdog

NOT_INPUT_ERRORS = (Interrupted, DeviceLost)

# Called with the error of a micro-batch and its rows, before it is bisected; may raise another error instead.
OnFailure = Callable[[BaseException, Sequence[Row]], None]


@dataclass(frozen=True, slots=True)
class CompletedPass:
    """The outputs of an adapter that computes one pass after another."""

    outputs: list[Any]
    device_seconds: float | None = None

    def result(self) -> list[Any]:
        """The outputs."""
        return self.outputs


@dataclass(slots=True)
class LaunchedPass:
    """A micro-batch that was launched, or the error that prevented it.

    requested_tokens: the token budget that the micro-batch was planned for.
    launch_seconds: how long the launch took; in an adapter that launches nothing, the whole pass.
    processor_seconds: this thread's processor time in the launch.
    """

    micro_batch: MicroBatch
    requested_tokens: int
    pending: PendingPass | None
    error: BaseException | None = None
    launch_seconds: float = 0.0
    processor_seconds: float = 0.0

    def raise_error(self) -> None:
        """Raise the launch's error, if there is one, without keeping it.

        Its frames hold the micro-batch's tensors, which would otherwise wait for Python's collector of cycles.
        """
        if self.error is not None:
            error, self.error = self.error, None
            try:
                raise error
            finally:
                del error


class SpentSeconds(NamedTuple):
    """The time spent in forward passes.

    device: by the device's own clock where it has one.
    thread: of the device thread, in launching passes and in waiting for them.
    """

    device: float
    thread: float

    def since(self, earlier: "SpentSeconds") -> "SpentSeconds":
        """The time since an earlier count."""
        return SpentSeconds(self.device - earlier.device, self.thread - earlier.thread)


class ForwardRunner:
    """Launches and collects forward passes; used by one thread alone.

    turns: entered for each launch, where several threads share the device. A pass that was launched needs no turn
        until it is collected: the device computes passes in the order of their launches.
    is_cpu: whether this thread itself computes. The token budget is then tuned by its processor time, which other work
        of the machine changes little.
    spent: the time of all passes so far.
    passes_in_flight: how many passes to launch before the first one is collected.
    """

    def __init__(
        self,
        adapter: Adapter,
        token_budget: TokenBudgetTuner,
        watchdog: Watchdog,
        on_failure: OnFailure,
        *,
        is_cpu: bool = False,
        turns: AbstractContextManager[object] = NO_TURNS,
    ) -> None:
        self.spent = SpentSeconds(0.0, 0.0)
        self._adapter = adapter
        self._launching_adapter = adapter if isinstance(adapter, LaunchingAdapter) else None
        self.passes_in_flight = 1 if self._launching_adapter is None else self._launching_adapter.passes_in_flight
        self._token_budget = token_budget
        self._watchdog = watchdog
        self._on_failure = on_failure
        self._is_cpu = is_cpu
        self._turns = turns

    def launch(self, rows: Sequence[Row], requested_tokens: int) -> LaunchedPass:
        """Launch one micro-batch; its error, if any, is kept until it is collected."""
        micro_batch = MicroBatch(tuple(rows))
        try:
            with self._turns, self._watchdog.watch():
                started, processor_started = time.monotonic(), time.thread_time()
                failpoint("mid_forward")
                pending = self._launch(micro_batch)
                seconds, processor_seconds = time.monotonic() - started, time.thread_time() - processor_started
        except BaseException as error:  # a panic in a library written in Rust is not an Exception
            return LaunchedPass(micro_batch, requested_tokens, None, error)
        return LaunchedPass(micro_batch, requested_tokens, pending, None, seconds, processor_seconds)

    def collect(self, launched: LaunchedPass) -> list[tuple[Row, Any]]:
        """Pair each row with its output, or with the exception that it alone raises.

        No other pass may be in flight if this one has an error, because its parts run again.
        """
        rows = launched.micro_batch.rows
        try:
            return list(zip(rows, self._result(launched), strict=True))
        except BaseException as error:
            return self.bisect(error, rows, launched.requested_tokens)

    def bisect(self, error: BaseException, rows: Sequence[Row], requested_tokens: int) -> list[tuple[Row, Any]]:
        """Run the rows of a micro-batch that raised `error` again, in smaller ones.

        A row that does not fit alone says nothing about the token budget, which is then as before.
        """
        limits = self._token_budget.limits
        self._on_failure(error, rows)

        def forward(part: Sequence[Row]) -> list[Any]:
            try:
                return self._result(self.launch(part, requested_tokens))
            except Exception as part_error:
                self._on_failure(part_error, part)
                raise

        outputs = bisect_failed(error, forward, rows, reraise=NOT_INPUT_ERRORS)
        if any(_is_too_large(output) for _, output in outputs):
            self._token_budget.restore(limits)
        return outputs

    def add_seconds(self, thread_seconds: float, device_seconds: float | None = None) -> None:
        """Count the time of a pass or a step; without a clock of the device, this thread's counts for both."""
        device = thread_seconds if device_seconds is None else device_seconds
        self.spent = SpentSeconds(self.spent.device + device, self.spent.thread + thread_seconds)

    def tune(self, requested_tokens: int, micro_batch: MicroBatch, seconds: float) -> None:
        """Let the token budget's tuner know how long a micro-batch took."""
        tokens = sum(row.length for row in micro_batch.rows)
        self._token_budget.record(requested_tokens, micro_batch.padded_tokens, tokens, seconds)

    def _launch(self, micro_batch: MicroBatch) -> PendingPass:
        if self._launching_adapter is not None:
            return self._launching_adapter.launch(micro_batch)
        return CompletedPass(self._adapter.forward(micro_batch))

    def _result(self, launched: LaunchedPass) -> list[Any]:
        """Wait for the outputs; the launch and the wait together must keep within the watchdog's limit."""
        launched.raise_error()
        assert launched.pending is not None
        started = time.monotonic()
        with self._watchdog.watch(launched.launch_seconds):
            outputs = launched.pending.result()
        before = self.spent
        self.add_seconds(launched.launch_seconds + time.monotonic() - started, launched.pending.device_seconds)
        seconds = launched.processor_seconds if self._is_cpu else self.spent.since(before).device
        self.tune(launched.requested_tokens, launched.micro_batch, seconds)
        return outputs


def _is_too_large(output: Any) -> bool:
    """Whether this is the error of a row that does not fit into this process's memory even alone."""
    return isinstance(output, Exception) and is_out_of_memory(output) and not is_transient(output)
