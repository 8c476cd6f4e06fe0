"""A worker process whose model answers at once; arguments: task, pipeline, threads, file for the threads' times."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.host.instant_model import make_instant
from worker.loading import runtime
from worker.process import main

SAMPLE_SECONDS = 0.1
THREAD_NAMES = ("claim", "device", "write")


def write_thread_times(path: Path) -> None:
    """Keep writing the processor seconds of each engine thread and of the process, by name."""
    new = path.with_suffix(".new")
    while True:
        seconds = {"process": time.process_time()}
        for thread in threading.enumerate():
            if thread.name in THREAD_NAMES and thread.ident is not None:
                seconds[thread.name] = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
        new.write_text(" ".join(f"{name}={value}" for name, value in seconds.items()))
        new.replace(path)
        time.sleep(SAMPLE_SECONDS)


def start(task: str, pipeline: str, threads: int, times: Path) -> int:
    """Serve the pipeline; returns the exit status."""
    load = runtime.load

    def load_instant(*args: Any, **options: Any) -> Any:
        loaded = load(*args, **options)  # with its real model, which the probes at load time need
        make_instant(loaded.model, task)
        return loaded

    runtime.load = load_instant
    threading.Thread(target=write_thread_times, args=(times,), daemon=True).start()
    return main.main([pipeline], "cpu", threads, f"instant-{os.getpid()}")


if __name__ == "__main__":
    status = start(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    sys.stdout.flush()
    os._exit(status)
