"""Ray Data as a contestant: each run is a process of its own, of which only the work itself is counted."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import THREADS, environments
from benchmarks.loops import TimedRun

SCRIPT = Path(__file__).with_name("ray_loop.py")


def map_batches_run(model: Path, texts: Sequence[str], batch_size: int) -> TimedRun:
    """`map_batches` with one actor and as many threads as everybody else."""
    asked = json.dumps({"model": str(model), "texts": list(texts), "threads": THREADS, "batch_size": batch_size})
    python = environments.ray_python()

    def run() -> float:
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run(
            [python, SCRIPT], input=asked, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RuntimeError(f"Ray ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return float(done.stdout.splitlines()[-1])

    return run
