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


class ModelCache:
    """Runtimes off the device, the least recently used one the first to go; `room` is in bytes of weights."""

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._offloaded: OrderedDict[Hashable, Runtime] = OrderedDict()

    def pop(self, key: Hashable) -> "Runtime | None":
        """A parked runtime, back on its device; None when it is not here."""
        runtime = self._offloaded.pop(key, None)
        if runtime is not None:
            runtime.restore()
        return runtime

    def put(self, key: Hashable, runtime: "Runtime") -> None:
        """Take a runtime off its device and keep it; what there is no room for is forgotten, perhaps itself."""
        if runtime.can_offload:
            try:
                runtime.offload()
            except Exception as error:  # there is no memory to park it in
                log.warning("pipeline can't be kept in memory", left=str(key), error=str(error))
                return
            self._offloaded[key] = runtime
            while sum(parked.weight_bytes for parked in self._offloaded.values()) > self._max_bytes:
                forgotten, _ = self._offloaded.popitem(last=False)
                log.info("pipeline left memory", left=str(forgotten))

    def __len__(self) -> int:
        return len(self._offloaded)


def freeze_gc() -> None:
    """Take what is there now, a model and its libraries, for what will stay.

    Python's collector looks through all objects again and again for circles: with torch, transformers and a window of
    jobs in memory, that took more than a third of the time of a job whose model does nothing.
    """
    gc.set_threshold(50_000, 20, 100)
    gc.freeze()


def release_memory() -> None:
    """Give memory that nobody refers to back to the machine. Python and the C library would rather keep it."""
    gc.unfreeze()
    gc.collect()  # adapters and models refer to each other in circles
    process_memory.trim_heap()
