"""Device discovery finds GPUs without loading torch and divides the CPU cores among processes."""

import os
import re
from pathlib import Path

from models.errors import UsageError
from models.pipelines.pipeline import DEVICE_PATTERN


def device_names(requested: str) -> list[str]:
    """Return one device name per process; `auto` means every GPU, or one process if there is none."""
    if requested != "auto":
        names = [name.strip() for name in requested.split(",") if name.strip()]
        if not names:
            raise UsageError("--devices names no device; write cuda:0,cuda:1 or cpu, or leave it out")
        for name in names:
            if not re.fullmatch(DEVICE_PATTERN, name):
                raise UsageError(f"--devices: {name[:80]!r} is no device; write cuda:0,cuda:1 or cpu, or leave it out")
        return names
    gpus = _gpu_count()
    return [f"cuda:{index}" for index in range(gpus)] if gpus else ["auto"]


def threads_per_process(devices: list[str]) -> int:
    """Return the compute threads for each process: an equal share of the available cores."""
    return max(1, _core_count() // max(1, len(devices)))


def _core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu_count() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
