"""Ray Data as a candidate: each run is a separate process, and only the work itself is timed."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import THREADS, peer_environments
from benchmarks.inference_loops import TimedRun

SCRIPT = Path(__file__).with_name("ray_data_process.py")


def map_batches_run(model: Path, texts: Sequence[str], batch_size: int) -> TimedRun:
    """Return a run of `map_batches` with one actor and the same number of threads as every candidate."""
    asked = json.dumps({"model": str(model), "texts": list(texts), "threads": THREADS, "batch_size": batch_size})
    python = peer_environments.ray_python()

    def run() -> float:
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run(
            [python, SCRIPT], input=asked, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            raise RuntimeError(f"Ray ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return float(done.stdout.splitlines()[-1])

    return run
