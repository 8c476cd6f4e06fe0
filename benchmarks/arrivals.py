"""Arrivals: a file comes in by `batchmill submit`, in a process of its own that is watched from outside."""

import json
import math
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.enqueues import short_text
from benchmarks.mills import NO_OP_PIPELINE
from models.lifecycle.wakeups import queue_name
from models.settings import Settings
from tests.mill import Deployment
from tests.servers import Valkey

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class SubmitTiming:
    """Seconds from the command's start until it printed the batch's id, and from there to its last bell."""

    batch_id: str
    accepted_seconds: float
    wakeups_seconds: float
    peak_mib: float


def write_jsonl(folder: Path, rows: int) -> Path:
    """A JSONL file of so many short rows, each with an id of its own."""
    path = folder / f"{rows}.jsonl"
    with path.open("w") as file:
        file.writelines(json.dumps({"id": f"r{row:07}", "text": short_text(row)}) + "\n" for row in range(rows))
    return path


def time_submit(deployment: Deployment, valkey: Valkey, path: Path, rows: int) -> SubmitTiming:
    """Submit a file while nobody hears the bells, so that they can be counted."""
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
            while (heard := client.llen(queue_name(NO_OP_PIPELINE))) < slices and process.poll() is None:
                peak = max(peak, _peak_mib(process.pid))
                time.sleep(POLL_SECONDS)
        rung = time.perf_counter()
    if process.returncode != 0 or heard < slices:
        raise RuntimeError(f"submit did not come to its end:\n{deployment.log}")
    return SubmitTiming(batch_id, accepted - started, rung - accepted, peak)


def _peak_mib(pid: int) -> float:
    # Not the kernel's account of an ended child: that counts what its parent had resident when it was started, too.
    lines = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    return int(lines[0]) / 1024 if lines else 0.0  # it has none once it has ended
