"""The process count decides how many processes `auto` runs on one GPU. Pure.

One process is limited by its own interpreter, at a fraction of what a GPU can compute for a small encoder. Each further
process has its own copy of the weights, and needs cores for tokenizing and writing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_PROCESSES_PER_GPU = 4
CORES_PER_PROCESS = 3  # the claim, device and write threads
MAX_WEIGHTS_SHARE = 0.2  # of a GPU's memory, over all processes; micro-batches take far more than weights


@dataclass(frozen=True, slots=True)
class LoadEstimate:
    """What a process may load: a pipeline, whether it generates text, and the size of its weights, None = unknown."""

    pipeline: str
    generates: bool
    weight_bytes: int | None


class ProcessCount(NamedTuple):
    """A number of processes, and the reason in words for the log."""

    processes: int
    reason: str


def choose_process_count(
    cores_per_gpu: int, memory_bytes: int | None, estimates: Sequence[LoadEstimate]
) -> ProcessCount:
    """Return the number of processes for one GPU; a process may switch to any of the pipelines.

    cores_per_gpu: the cores of this machine, divided by its GPUs.
    memory_bytes: the GPU's memory, None = unknown.
    """
    limit = min(MAX_PROCESSES_PER_GPU, cores_per_gpu // CORES_PER_PROCESS)
    generating = next((estimate.pipeline for estimate in estimates if estimate.generates), None)
    unknown = next((estimate.pipeline for estimate in estimates if estimate.weight_bytes is None), None)
    if limit <= 1:
        return ProcessCount(1, f"there are {cores_per_gpu} cores for each GPU, and a process needs {CORES_PER_PROCESS}")
    if generating is not None:
        return ProcessCount(1, f"{generating} generates text, for which one process fills a GPU")
    if memory_bytes is None:
        return ProcessCount(1, "the memory of the GPU is not known, because nvidia-smi does not tell it")
    if unknown is not None:
        return ProcessCount(1, f"the size of {unknown} is not known; fetch it: batchmill models pull {unknown}")
    largest = max((estimate.weight_bytes or 0 for estimate in estimates), default=0)
    fitting = int(MAX_WEIGHTS_SHARE * memory_bytes // max(1, largest))
    if fitting < limit:
        processes = max(1, fitting)
        return ProcessCount(processes, f"more copies of the largest weights, {largest / 1e9:.1f} GB, would be too many")
    return ProcessCount(limit, f"there are {cores_per_gpu} cores for each GPU")
