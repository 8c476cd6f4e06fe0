"""Submit timing: `batchmill submit` of a file in a separate process, observed from outside."""

import json
import math
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.deployments import NO_OP_PIPELINE
from benchmarks.peer_enqueue import short_text
from models.lifecycle.wakeups import queue_name
from models.settings import Settings
from tests.deployment import Deployment
from tests.servers import Valkey

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class SubmitTiming:
    """Seconds from the command's start to the printed batch id, and from there to the last wakeup."""

    batch_id: str
    accepted_seconds: float
    wakeups_seconds: float
    peak_mib: float


def write_jsonl(folder: Path, rows: int) -> Path:
    """Write a JSONL file of short rows, each with its own id."""
    path = folder / f"{rows}.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({"id": f"r{row:07}", "text": short_text(row)}) + "\n" for row in range(rows))
    return path


def time_submit(deployment: Deployment, valkey: Valkey, path: Path, rows: int) -> SubmitTiming:
    """Submit a file while no worker consumes wakeups, so that they can be counted."""
    command = [sys.executable, "-P", "-m", "batchmill", "submit", str(path), "-p", NO_OP_PIPELINE]
    started = time.perf_counter()
    with (
        (deployment.folder / "log").open("ab") as log,
        subprocess.Popen(
            command,
            cwd=deployment.folder,
            env=deployment.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdout
        peak = 0.0
        while not select.select([process.stdout], [], [], POLL_SECONDS)[0]:
            peak = max(peak, _peak_mib(process.pid))
        batch_id = process.stdout.readline().decode().strip()
        accepted = time.perf_counter()
        slices = math.ceil(rows / Settings.load().slice_size)
        with redis.Redis.from_url(valkey.url) as client:
            while (queued := client.llen(queue_name(NO_OP_PIPELINE))) < slices and process.poll() is None:
                peak = max(peak, _peak_mib(process.pid))
                time.sleep(POLL_SECONDS)
        last_wakeup_at = time.perf_counter()
    if process.returncode != 0 or queued < slices:
        raise RuntimeError(f"submit did not come to its end:\n{deployment.log}")
    return SubmitTiming(batch_id, accepted - started, last_wakeup_at - accepted, peak)


def _peak_mib(pid: int) -> float:
    # The kernel's figure for an ended child includes its parent's resident memory at the start.
    lines = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    return int(lines[0]) / 1024 if lines else 0.0  # an ended process has none
