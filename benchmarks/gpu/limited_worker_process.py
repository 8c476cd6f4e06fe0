"""A worker process that may use a few gigabytes of its card; arguments: pipeline, device, bytes."""

import os
import sys
from typing import Any

import torch

from worker.loading import runtime
from worker.process import main


def start(pipeline: str, device: str, max_bytes: int) -> int:
    """Serve the pipeline; returns the exit status."""
    load = runtime.load

    def load_limited(*args: Any, **options: Any) -> Any:
        loaded = load(*args, **options)
        if device != "cpu":
            total = torch.cuda.get_device_properties(torch.device(device)).total_memory
            torch.cuda.set_per_process_memory_fraction(max_bytes / total, torch.device(device))
        return loaded

    runtime.load = load_limited
    return main.main([pipeline], device, None, f"limited-{os.getpid()}")


if __name__ == "__main__":
    status = start(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    sys.stdout.flush()
    os._exit(status)
