"""Memory failures make the micro-batches that follow smaller; a lost device ends the process."""

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from worker.adapters.rows import MicroBatch, Row
from worker.failures import DeviceLost, is_device_lost, is_out_of_memory, mark_transient
from worker.passes.token_budget import TokenBudgetTuner

if TYPE_CHECKING:
    from worker.loading.runtime import Runtime


def shrink_if_out_of_memory(
    error: BaseException, rows: Sequence[Row], runtime: "Runtime", token_budget: TokenBudgetTuner, log: Any
) -> bool:
    """Halve the token budget if these rows did not fit into memory, and return whether that was the failure.

    The error is transient if other processes have the memory. Raises DeviceLost if the device is lost.
    """
    if is_device_lost(error):
        raise DeviceLost from error
    if not isinstance(error, Exception) or not is_out_of_memory(error):
        return False
    if runtime.is_memory_taken_by_others(error):  # asked before the memory is released
        mark_transient(error)
    tokens = MicroBatch(tuple(rows)).padded_tokens
    token_budget.shrink(tokens)
    traceback.clear_frames(error.__traceback__)  # the frames hold the micro-batch's tensors
    runtime.release_memory()
    log.warning("device.out_of_memory", tokens=tokens, micro_batch_tokens=token_budget.tokens)
    return True
