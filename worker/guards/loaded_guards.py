"""The loaded guards of a pipeline: their models, what watches them, and their turns on the device."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from models.guards.definition import Guard, Stage
from worker.guards.guard_model import GuardModel
from worker.guards.guard_passes import GuardPasses
from worker.guards.screener import LoadedGuardModel, Screener
from worker.passes.device_lock import NO_TURNS, DeviceLock
from worker.passes.watchdog import OnHang, Watchdog

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime


# Texts that guard models read together, before what has them goes on: enough for well filled micro-batches, and few
# enough that the next thread soon has the first ones, and that a stop or a crash costs little.
MICRO_BATCHES_PER_CHUNK, BYTES_PER_TOKEN = 16, 4
MAX_CHUNK_BYTES = 4 * 2**20


class LoadedGuards:
    """Makes the screeners of an engine's threads.

    guards: of the pipeline, in the order of their definition.
    definitions: hash of each guard's definition, by its name.
    runtimes: of the pipelines that guards name.
    timeout_seconds: how long one pass or tokenizer call may take, by guard pipeline.
    on_hang: called with the guard pipeline and `guard` when one takes longer.
    turns: to enter for every launch of a pass in this process; nothing to wait for unless guards have models.
    """

    def __init__(
        self,
        guards: Mapping[str, Guard],
        definitions: Mapping[str, str],
        runtimes: Mapping[str, "Runtime"],
        timeout_seconds: Mapping[str, float],
        on_hang: OnHang,
        log: Any,
    ) -> None:
        self.turns: AbstractContextManager[object] = DeviceLock() if runtimes else NO_TURNS
        self._guards = guards
        self._definitions = definitions
        self._log = log
        self._models = {name: GuardModel(name, runtime) for name, runtime in runtimes.items()}
        self._watchdogs = {name: Watchdog(timeout_seconds[name], partial(on_hang, name, "guard")) for name in runtimes}
        self._passes: list[GuardPasses] = []

    @property
    def device_seconds(self) -> float:
        """The device's time for all guards so far."""
        return sum([passes.spent_seconds for passes in self._passes])

    def max_chunk_bytes(self, micro_batch_tokens: int) -> int:
        """How much text the guards of a stage read together; `micro_batch_tokens` is the pipeline's token budget."""
        tokens = max([micro_batch_tokens, *(model.runtime.micro_batch_tokens for model in self._models.values())])
        return min(MAX_CHUNK_BYTES, MICRO_BATCHES_PER_CHUNK * BYTES_PER_TOKEN * tokens)

    def screener(self, stage: Stage, should_stop: Callable[[], bool], label_fields: Collection[str] = ()) -> Screener:
        """Return a screener for one thread; its guards stop before the next pass once `should_stop` says so.

        label_fields: fields of the documents whose texts are labels, which are not read.
        """
        models = {}
        used = {guard.pipeline for guard in self._guards.values() if guard.on == stage}
        for name, model in self._models.items():
            if name in used:
                passes = GuardPasses(model.runtime, self._watchdogs[name], self.turns, should_stop, self._log)
                self._passes.append(passes)
                models[name] = LoadedGuardModel(model, passes, self._watchdogs[name])
        return Screener(stage, self._guards, models, self._definitions, label_fields)

    def start(self) -> None:
        """Watch the guards' calls from now on."""
        for watchdog in self._watchdogs.values():
            watchdog.start()

    def stop(self) -> None:
        """Stop watching."""
        for watchdog in self._watchdogs.values():
            watchdog.stop()
