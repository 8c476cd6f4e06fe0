"""The cache: pipelines that were pinned lately and may be again stay in this machine's memory, within a bound."""

import gc
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING

import structlog

from worker import process_memory

if TYPE_CHECKING:  # torch is the runtime's to import
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)


class RuntimeCache:
    """Runtimes off the device, the least recently used one the first to go; `room` is in bytes of weights."""

    def __init__(self, room: float) -> None:
        self._room = room
        self._parked: OrderedDict[Hashable, Runtime] = OrderedDict()

    def take(self, name: Hashable) -> "Runtime | None":
        """A parked runtime, back on its device; None when it is not here."""
        runtime = self._parked.pop(name, None)
        if runtime is not None:
            runtime.unpark()
        return runtime

    def put(self, name: Hashable, runtime: "Runtime") -> None:
        """Take a runtime off its device and keep it; what there is no room for is forgotten, perhaps itself."""
        if runtime.movable:
            try:
                runtime.park()
            except Exception as error:  # there is no memory to park it in
                log.warning("pipeline can't be kept in memory", left=str(name), error=str(error))
                return
            self._parked[name] = runtime
            while sum(parked.size for parked in self._parked.values()) > self._room:
                forgotten, _ = self._parked.popitem(last=False)
                log.info("pipeline left memory", left=str(forgotten))

    def __len__(self) -> int:
        return len(self._parked)


def settle() -> None:
    """Take what is there now, a model and its libraries, for what will stay.

    Python's collector looks through all objects again and again for circles: with torch, transformers and a window of
    jobs in memory, that took more than a third of the time of a job whose model does nothing.
    """
    gc.set_threshold(50_000, 20, 100)
    gc.freeze()


def free() -> None:
    """Give memory that nobody refers to back to the machine. Python and the C library would rather keep it."""
    gc.unfreeze()
    gc.collect()  # adapters and models refer to each other in circles
    process_memory.give_back()
