"""The model cache keeps recently used pipelines in CPU memory, up to a limit, for a fast switch back."""

import gc
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING

import structlog

from worker import process_memory

if TYPE_CHECKING:  # importing it loads torch
    from worker.loading.runtime import Runtime

log = structlog.get_logger(__name__)


class ModelCache:
    """Holds offloaded runtimes and evicts the least recently used one first; `max_bytes` counts their weights.

    Weights that pipelines share count once.
    """

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._offloaded: OrderedDict[Hashable, Runtime] = OrderedDict()

    def pop(self, key: Hashable) -> "Runtime | None":
        """Restore a cached runtime to its device and return it; None if it is not cached."""
        runtime = self._offloaded.pop(key, None)
        if runtime is not None:
            runtime.restore()
        return runtime

    def put(self, key: Hashable, runtime: "Runtime", *, keeps_shared: bool = False) -> None:
        """Offload a runtime and keep it; those beyond the limit are evicted, perhaps this one.

        keeps_shared: leave weights on the device that the next pipeline shares; see `offload_shared`.
        """
        if runtime.can_offload and self._offload(key, runtime, keeps_shared=keeps_shared):
            self._offloaded[key] = runtime
            while self._cached_bytes > self._max_bytes:
                evicted_key, _ = self._offloaded.popitem(last=False)
                log.info("model.evicted", target=str(evicted_key))

    def offload_shared(self) -> None:
        """Offload the shared weights too, before a pipeline without them is loaded."""
        for key, runtime in list(self._offloaded.items()):
            if not self._offload(key, runtime, keeps_shared=False):
                del self._offloaded[key]

    @property
    def _cached_bytes(self) -> int:
        shared: dict[int, int] = {}
        own_bytes = 0
        for runtime in self._offloaded.values():
            sizes = runtime.shared_sizes
            own_bytes += runtime.weight_bytes - sum(sizes.values())
            shared |= sizes
        return own_bytes + sum(shared.values())

    @staticmethod
    def _offload(key: Hashable, runtime: "Runtime", *, keeps_shared: bool) -> bool:
        try:
            runtime.offload(keeps_shared=keeps_shared)
        except Exception as error:  # not enough memory to offload it
            log.warning("model.offload_failed", target=str(key), error=str(error))
            return False
        return True

    def __contains__(self, key: Hashable) -> bool:
        return key in self._offloaded

    def __len__(self) -> int:
        return len(self._offloaded)


def freeze_gc() -> None:
    """Exempt all present objects, a model and its libraries, from garbage collection.

    Python's cyclic collector repeatedly scans all objects. With torch, transformers and claimed jobs in memory, that
    took more than a third of the time of a job whose model does nothing.
    """
    gc.set_threshold(50_000, 20, 100)
    gc.freeze()


def release_memory() -> None:
    """Return unreferenced memory to the machine; Python and the C library would otherwise keep it."""
    gc.unfreeze()
    gc.collect()  # adapters and models form reference cycles
    process_memory.trim_heap()
